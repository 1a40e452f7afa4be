"""A prompt's pictures on their way through a vision tower, and its features on their way into the prompt."""

from typing import Final

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

# Among the numbers of features: a vector that the model learned, such as the one at the end of a row of patches.
LEARNED: Final = -1


def one_by_one(
    pictures: Shaped[Array, "batch pictures height width channels"],
) -> Shaped[Array, "all_pictures height width channels"]:
    """All prompts' pictures one after the other, as a tower takes them."""
    return pictures.reshape(-1, *pictures.shape[2:])


def side_by_side(
    features: Float[Array, "all_pictures positions width"], prompts: int
) -> Float[Array, "batch visual width"]:
    """The features of so many prompts' pictures, each prompt's in one row."""
    return features.reshape(prompts, -1, features.shape[-1])


def rearranged(
    features: Float[Array, "batch features width"],
    reads: Int[Array, "batch visual"],
    learned: Float[Array, " width"],
) -> Float[Array, "batch visual width"]:
    """Features in another order.

    Args:
        reads: of every place, the number of its feature, or `LEARNED`.
        learned: the vector that stands where no feature is read.
    """
    read = jnp.take_along_axis(features, jnp.maximum(reads, 0)[..., None], axis=1)
    return jnp.where((reads == LEARNED)[..., None], learned.astype(features.dtype), read)


def blended(
    features: Float[Array, "batch features width"],
    reads: Int[Array, "batch visual neighbours"],
    shares: Float[Array, "batch visual neighbours"],
    learned: Float[Array, " width"],
) -> Float[Array, "batch visual width"]:
    """Sums of a few features each, such as of four neighbours in a grid that is resampled.

    Args:
        reads: of every place, the numbers of its features, or `LEARNED`.
        shares: what each of them is multiplied by.
        learned: as of `rearranged`.
    """
    parts = (
        rearranged(features, reads[..., one], learned) * shares[..., one, None].astype(features.dtype)
        for one in range(reads.shape[-1])
    )
    return sum(parts, jnp.zeros((), features.dtype))


def features_in_order(
    words: Float[Array, "batch position width"],
    is_image: Bool[Array, "batch position"],
    features: Float[Array, "batch visual width"],
) -> Float[Array, "batch position width"]:
    """Embedded prompts whose n-th image position holds the prompt's n-th feature."""
    index = jnp.clip(jnp.cumsum(is_image, axis=1) - 1, 0, features.shape[1] - 1)
    visual = jnp.take_along_axis(features, index[..., None], axis=1)
    return jnp.where(is_image[..., None], visual.astype(words.dtype), words)
