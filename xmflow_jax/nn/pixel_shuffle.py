"""Squares of neighbouring patches joined to one position each (InternVL, Idefics3: "pixel shuffle")."""

from jaxtyping import Array, Float


def join_squares(x: Float[Array, "pictures patches width"], side: int) -> Float[Array, "pictures positions joined"]:
    """Patches of square pictures, row by row, as squares of `side` by `side` of them, row by row.

    Within a joined vector the patches of a square follow each other row by row, each with its numbers together. Source:
    `pixel_shuffle` of `InternVLModel` and `Idefics3Connector`, transformers 5.24, which reach the same order by two
    transposed views.

    Args:
        side: divides the patches along one side of a picture.
    """
    pictures, patches, width = x.shape
    across = int(patches**0.5) // side
    squares = x.reshape(pictures, across, side, across, side, width).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(pictures, across**2, side**2 * width)
