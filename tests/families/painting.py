"""Which positions see a difference between two images of one size, told by the positions' own boxes."""

import numpy as np
from jaxtyping import Bool
from PIL import Image

from xmflow_jax.data.processing import Processing

BLACK, WHITE = 0, 255


def changed_positions(processing: Processing, one: Image.Image, other: Image.Image) -> Bool[np.ndarray, " positions"]:
    """Of each position, whether any pixel in its box differs."""
    layout = processing.image_layout(one.size)
    differs = (processing.plain_pixels(one) != processing.plain_pixels(other)).any(-1)
    boxes = [layout.box(position) for position in range(layout.positions)]
    return np.array([box is not None and bool(differs[box[1] : box[3], box[0] : box[2]].any()) for box in boxes])


def painted_square(size: tuple[int, int], side: int, row: int, column: int) -> tuple[Image.Image, Image.Image]:
    """A black image, and the same with one white square of so many pixels a side in its grid of such squares.

    Args:
        size: (width, height).
    """
    black = np.full((size[1], size[0], 3), BLACK, np.uint8)
    painted = black.copy()
    painted[row * side : (row + 1) * side, column * side : (column + 1) * side] = WHITE
    return Image.fromarray(black), Image.fromarray(painted)
