"""Idefics3's and SmolVLM's prompts: an image as tiles, each behind a mark of its row and column, and as a whole behind
them."""

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
from xmflow_jax.data.split_images import WHOLE, Grid, covering_grid, draw_split, split_layout
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.idefics3.modeling import Idefics3Config
from xmflow_jax.families.tower_decoder import place

# Around every tile; it must be a word of its own. The marks behind it may be spelt by several.
_AROUND: Final = "<fake_token_around_image>"
_WHOLE_MARK: Final = "<global-img>"

# A vocabulary beyond it is Llama 3's (Idefics3-8B), and not a SmolVLM's (49,280).
_SMALL_WORDS: Final = 100_000


@dataclass(frozen=True, eq=False)
class Marking:
    """A checkpoint's tokenizer, which spells the marks of tiles; of no checkpoint: None."""

    tokenizer: Any = None

    def tokens(self, text: str) -> list[int]:
        """Ids; without a tokenizer 0 for every mark."""
        if self.tokenizer is None:
            return [0] * (text.count("<") + text.count("\n"))
        # Behind a special token, as every mark stands, a tokenizer puts no space before a text as it may at its start.
        return [int(one) for one in self.tokenizer(f"{_AROUND}{text}", add_special_tokens=False).input_ids[1:]]


@dataclass(frozen=True)
class Splitting:
    """How a checkpoint's processor splits an image.

    Attributes:
        longest: pixels that an image's longer side is scaled to; None: images are not split.
        marking: what the marks are in tokens.
    """

    longest: int | None
    marking: Marking = Marking()


def published_splitting(config: Idefics3Config) -> Splitting:
    """Four tiles along the longer side, as published."""
    return Splitting(4 * config.vision.image_size)


def grid_of(config: Idefics3Config, size: tuple[int, int], splitting: Splitting) -> Grid:
    """(rows, columns) of an image's tiles.

    Args:
        size: (width, height).
    """
    return WHOLE if splitting.longest is None else covering_grid(size, config.vision.image_size, splitting.longest)


def image_layout(config: Idefics3Config, size: tuple[int, int], splitting: Splitting | None = None) -> ImageLayout:
    """The positions of every tile row by row, tile by tile, those of the whole last, with marks around each."""
    splitting = splitting or published_splitting(config)
    return _grid_layout(config, grid_of(config, size, splitting), splitting.marking)


@lru_cache(maxsize=256)
def _grid_layout(config: Idefics3Config, grid: Grid, marking: Marking) -> ImageLayout:
    rows, columns = grid
    marks = [
        f"{_line_end(row, column)}{_AROUND}<row_{row + 1}_col_{column + 1}>"
        for row in range(rows)
        for column in range(columns)
    ]
    marks += ["\n\n" * (grid != WHOLE) + f"{_AROUND}{_WHOLE_MARK}", _AROUND]
    between = [marking.tokens(mark) for mark in marks]
    return split_layout(grid, config.side, config.join * config.vision.patch_size, between)


def _line_end(row: int, column: int) -> str:
    """What stands before a tile: the end of the row of tiles above."""
    return "\n" if row and not column else ""


def tiles_of(image_processor: Any, image: Image.Image, **options: bool) -> np.ndarray:
    """[tile, height, width, 3], float32: what the image processor makes of an image, the whole last."""
    made = image_processor(image, return_tensors="np", **options)
    return np.moveaxis(np.asarray(made["pixel_values"][0]), 1, -1).astype(np.float32)


def tiles(image_processor: Any, images: Sequence[Image.Image]) -> Float32[np.ndarray, "tile height width 3"]:
    """All tiles of a prompt's images, as `Idefics3.visual` reads them."""
    return np.ascontiguousarray(np.concatenate([tiles_of(image_processor, image) for image in images]))


def views(
    config: Idefics3Config, image_processor: Any, splitting: Splitting, image: Image.Image
) -> UInt8[np.ndarray, "height width 3"]:
    """The whole and, below it, the tiles in their places, in the image's own colours."""
    made = tiles_of(image_processor, image, do_rescale=False, do_normalize=False)
    return np.ascontiguousarray(draw_split(made, grid_of(config, image.size, splitting)), dtype=np.uint8)


def processing(directory: Path, config: Idefics3Config) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, the tokenizer has no mark for an image, or the image
            processor's output is not what the tower reads.
    """
    files = read_files(directory)
    if _AROUND not in files.tokenizer.get_vocab():
        raise CheckpointError(f"{directory}: the tokenizer has no token {_AROUND!r}, which stands beside an image")
    splitting = Splitting(_longest(directory, files.image_processor), Marking(files.tokenizer))
    made = Processing(
        tokenizer=files.tokenizer,
        image_processor=files.image_processor,
        image_token_id=config.image_token,
        end_tokens=files.end_tokens,
        pixels=partial(tiles, files.image_processor),
        plain_pixels=partial(views, config, files.image_processor, splitting),
        image_layout=partial(image_layout, config, splitting=splitting),
        place=partial(place, config),
        one_layout=False,
    )
    side = config.vision.image_size
    oblong = (3 * side, 2 * side)
    rows, columns = grid_of(config, oblong, splitting)
    check_pictures(made, directory, oblong, (rows * columns + 1, side, side, 3), lambda pixels: pixels)
    return made


def _longest(directory: Path, image_processor: Any) -> int | None:
    """Pixels that the longer side of an image is scaled to before it is split; None: images are not split."""
    if not getattr(image_processor, "do_image_splitting", False):
        return None
    longest = (getattr(image_processor, "size", None) or {}).get("longest_edge")
    if not isinstance(longest, int) or longest < 1:
        raise CheckpointError(
            f"{directory}: the image processor's size is {image_processor.size!r}; expected longest_edge, in pixels"
        )
    return longest


def template(directory: Path, config: Idefics3Config) -> Template:
    """The turns of the authors' chat, their words for short answers behind the question."""
    return NAMED_TEMPLATES["idefics3" if config.text.vocabulary > _SMALL_WORDS else "smolvlm"]
