"""InternVL's prompts: an image as the tiles of a grid of about its shape, and as a whole behind them, between marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from xmflow_jax.data.images import ImageLayout
from xmflow_jax.data.processing import Processing, check_pictures, read_files
from xmflow_jax.data.split_images import WHOLE, closest_grid, draw_split, split_layout
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.internvl.modeling import InternVLConfig
from xmflow_jax.families.tower_decoder import place

# The tokenizer's settings that name the marks, and how published tokenizers spell them.
_MARKS: Final = {"start_image_token": "<img>", "end_image_token": "</img>"}
# More tiles than any model was trained with (40).
_MOST_TILES: Final = 256


@dataclass(frozen=True)
class Splitting:
    """How a checkpoint's processor splits an image.

    Attributes:
        least, most: tiles of a grid; 1 and 1: images are not split.
        marks: token ids before and behind an image.
    """

    least: int = 1
    most: int = 12
    marks: tuple[int, int] = (0, 0)


PUBLISHED: Final = Splitting()


@lru_cache(maxsize=256)
def image_layout(config: InternVLConfig, size: tuple[int, int], splitting: Splitting = PUBLISHED) -> ImageLayout:
    """The positions of every tile row by row, tile by tile, those of the whole last; no marks between them."""
    vision = config.vision
    grid = closest_grid(size, vision.image_size, splitting.least, splitting.most)
    start, end = splitting.marks
    between = [[start], *[[]] * (grid[0] * grid[1]), [end]]
    return split_layout(grid, config.side, config.join * vision.patch_size, between)


def tiles_of(image_processor: Any, image: Image.Image, **options: bool) -> np.ndarray:
    """[tile, height, width, 3], float32: what the image processor makes of an image, the whole last."""
    # The published processor crops whatever the image processor's own file says.
    made = image_processor(image, return_tensors="np", crop_to_patches=True, **options)
    return np.moveaxis(made["pixel_values"], 1, -1).astype(np.float32)


def tiles(image_processor: Any, images: Sequence[Image.Image]) -> Float32[np.ndarray, "tile height width 3"]:
    """All tiles of a prompt's images, as `InternVL.visual` reads them."""
    return np.ascontiguousarray(np.concatenate([tiles_of(image_processor, image) for image in images]))


def views(
    config: InternVLConfig, image_processor: Any, splitting: Splitting, image: Image.Image
) -> UInt8[np.ndarray, "height width 3"]:
    """The whole and, below it, the tiles in their places, in the image's own colours."""
    made = tiles_of(image_processor, image, do_rescale=False, do_normalize=False)
    grid = closest_grid(image.size, config.vision.image_size, splitting.least, splitting.most)
    return np.ascontiguousarray(draw_split(made, grid), dtype=np.uint8)


def processing(directory: Path, config: InternVLConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, the tokenizer has no marks for an image, or the image
            processor's output is not what the tower reads.
    """
    files = read_files(directory)
    splitting = _splitting(directory, files.tokenizer, files.image_processor)
    layout = partial(image_layout, config, splitting=splitting)
    made = Processing(
        tokenizer=files.tokenizer,
        image_processor=files.image_processor,
        image_token_id=config.image_token,
        end_tokens=files.end_tokens,
        pixels=partial(tiles, files.image_processor),
        plain_pixels=partial(views, config, files.image_processor, splitting),
        image_layout=layout,
        place=partial(place, config),
        one_layout=False,
    )
    side = config.vision.image_size
    oblong = (3 * side, 2 * side)
    grid = closest_grid(oblong, side, splitting.least, splitting.most)
    count = 1 if grid == WHOLE else grid[0] * grid[1] + 1
    check_pictures(made, directory, oblong, (count, side, side, 3), lambda pixels: pixels)
    return made


def _splitting(directory: Path, tokenizer: Any, image_processor: Any) -> Splitting:
    words = tokenizer.get_vocab()
    marks = [getattr(tokenizer, setting, None) or usual for setting, usual in _MARKS.items()]
    for mark in marks:
        if mark not in words:
            raise CheckpointError(f"{directory}: the tokenizer has no token {mark!r}, which stands beside an image")
    least, most = (getattr(image_processor, name, None) for name in ("min_patches", "max_patches"))
    if not isinstance(least, int) or not isinstance(most, int) or not 1 <= least <= most <= _MOST_TILES:
        raise CheckpointError(
            f"{directory}: the image processor's min_patches and max_patches are {least!r} and {most!r}; expected "
            f"numbers of tiles, {_MOST_TILES} at most"
        )
    return Splitting(least, most, (words[marks[0]], words[marks[1]]))


def template(directory: Path, config: InternVLConfig) -> Template:
    """ChatML without a system message, the image on a line of its own."""
    return NAMED_TEMPLATES["internvl"]
