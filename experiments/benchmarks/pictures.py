"""Random pictures as each family's model reads them, and as transformers' model of that family does."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from xmflow_jax.data.anyres import blend_features, most_cells, read_features
from xmflow_jax.data.images import COLOURS
from xmflow_jax.families.idefics3 import processing as idefics3
from xmflow_jax.families.internvl import processing as internvl
from xmflow_jax.families.llava_next.modeling import READS
from xmflow_jax.families.llava_next.processing import tiling
from xmflow_jax.families.llava_onevision.modeling import SHARES
from xmflow_jax.families.qwen2_vl import processing as qwen2_vl

Size = tuple[int, int]
Arrays = dict[str, np.ndarray]


class Shown(NamedTuple):
    """One question's image, for PyTorch.

    Attributes:
        config: the model's.
        pixels: as of `Prompt.pixels`.
        size: (width, height) of the image.
        tokens: the prompt's.
    """

    config: Any
    pixels: Any
    size: Size
    tokens: np.ndarray


class Pictures(NamedTuple):
    """How a benchmark makes a family's images.

    Attributes:
        draw: (configuration, images, their (width, height), generator) -> `Prompt.pixels`.
        for_pytorch: an image -> further arguments of transformers' model.
    """

    draw: Callable[[Any, int, Size, np.random.Generator], Any]
    for_pytorch: Callable[[Shown], Arrays]


def _squares(config: Any, images: int, size: Size, rng: np.random.Generator) -> np.ndarray:
    side = config.vision.image_size
    return rng.normal(size=(images, side, side, 3)).astype(np.float32)


def _tiles(config: Any, images: int, size: Size, rng: np.random.Generator) -> Arrays:
    _only_one(images)
    cut = tiling(config, size)
    return {COLOURS: _squares(config, cut.tiles + 1, size, rng), READS: read_features(cut)}


def _resampled_tiles(config: Any, images: int, size: Size, rng: np.random.Generator) -> Arrays:
    _only_one(images)
    cut = tiling(config, size)
    reads, shares = blend_features(cut, most_cells(cut, config.most_tiles))
    return {COLOURS: _squares(config, cut.tiles + 1, size, rng), READS: reads, SHARES: shares}


def _patches(config: Any, images: int, size: Size, rng: np.random.Generator) -> Arrays:
    grid = _grid(config, size)
    colours = rng.normal(size=(images * grid[0] * grid[1], config.vision.patch_numbers)).astype(np.float32)
    return {COLOURS: colours, **qwen2_vl.patch_numbers(config, [grid] * images)}


def _grid(config: Any, size: Size) -> tuple[int, int]:
    """(rows, columns) of Qwen-VL's patches."""
    layout = qwen2_vl.image_layout(config, size)
    return layout.rows * config.vision.merge, layout.columns * config.vision.merge


def _split(layout_of: Callable[[Any, Size], Any]) -> Callable[[Any, int, Size, np.random.Generator], np.ndarray]:
    def draw(config: Any, images: int, size: Size, rng: np.random.Generator) -> np.ndarray:
        return _squares(config, images * layout_of(config, size).positions // config.side**2, size, rng)

    return draw


def _only_one(images: int) -> None:
    if images != 1:
        raise ValueError(f"{images} images of tiles; the benchmark draws one")


def _torch_pictures(pictures: np.ndarray) -> np.ndarray:
    """Channels first."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _torch_tiles(shown: Shown) -> Arrays:
    tiles = _torch_pictures(shown.pixels[COLOURS])[None]
    return {"pixel_values": tiles, "image_sizes": np.array([shown.size[::-1]])}


def _torch_patches(shown: Shown) -> Arrays:
    return {
        "pixel_values": shown.pixels[COLOURS],
        "image_grid_thw": np.array([[1, *_grid(shown.config, shown.size)]]),
        "mm_token_type_ids": _image_types(shown),
    }


def _image_types(shown: Shown) -> np.ndarray:
    """1 at image positions, else 0."""
    return (shown.tokens == shown.config.image_token).astype(np.int64)[None]


_PATCHES: Final = Pictures(_patches, _torch_patches)
_PLAIN: Final = Pictures(_squares, lambda shown: {"pixel_values": _torch_pictures(shown.pixels)})
# By model type.
PICTURES: Final[Mapping[str, Pictures]] = {
    "llava": _PLAIN,
    "llava_next": Pictures(_tiles, _torch_tiles),
    "llava_onevision": Pictures(
        _resampled_tiles, lambda shown: {**_torch_tiles(shown), "batch_num_images": np.array([1])}
    ),
    "qwen2_vl": _PATCHES,
    "qwen2_5_vl": _PATCHES,
    "qwen3_vl": _PATCHES,
    "internvl": Pictures(_split(internvl.image_layout), _PLAIN.for_pytorch),
    "idefics3": Pictures(
        _split(idefics3.image_layout), lambda shown: {"pixel_values": _torch_pictures(shown.pixels)[None]}
    ),
    "gemma3": Pictures(
        _squares,
        lambda shown: {"pixel_values": _torch_pictures(shown.pixels), "token_type_ids": _image_types(shown)},
    ),
    # The whole prompt is of the type that sees itself.
    "paligemma": Pictures(
        _squares,
        lambda shown: {
            "pixel_values": _torch_pictures(shown.pixels),
            "token_type_ids": np.zeros((1, len(shown.tokens)), np.int64),
        },
    ),
}
