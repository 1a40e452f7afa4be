"""Random pictures as each family's model reads them, and as transformers' model of that family does."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from xmflow_jax.data.anyres import read_features
from xmflow_jax.data.images import COLOURS
from xmflow_jax.families.llava_next.modeling import READS
from xmflow_jax.families.llava_next.processing import tiling

Size = tuple[int, int]


class Pictures(NamedTuple):
    """How a benchmark makes a family's images.

    Attributes:
        draw: (configuration, images, their (width, height), generator) -> `Prompt.pixels`.
        for_pytorch: (these pixels, the size) -> further arguments of transformers' model, as arrays.
    """

    draw: Callable[[Any, int, Size, np.random.Generator], Any]
    for_pytorch: Callable[[Any, Size], dict[str, np.ndarray]]


def _squares(config: Any, images: int, size: Size, rng: np.random.Generator) -> np.ndarray:
    side = config.vision.image_size
    return rng.normal(size=(images, side, side, 3)).astype(np.float32)


def _tiles(config: Any, images: int, size: Size, rng: np.random.Generator) -> dict[str, np.ndarray]:
    if images != 1:
        raise ValueError(f"{images} images of tiles; the benchmark draws one")
    cut, side = tiling(config, size), config.vision.image_size
    colours = rng.normal(size=(cut.tiles + 1, side, side, 3)).astype(np.float32)
    return {COLOURS: colours, READS: read_features(cut)}


# By model type.
PICTURES: Final[Mapping[str, Pictures]] = {
    "llava": Pictures(_squares, lambda pixels, size: {"pixel_values": pixels.transpose(0, 3, 1, 2)}),
    "llava_next": Pictures(
        _tiles,
        lambda pixels, size: {
            "pixel_values": pixels[COLOURS].transpose(0, 3, 1, 2)[None],
            "image_sizes": np.array([size[::-1]]),
        },
    ),
}
