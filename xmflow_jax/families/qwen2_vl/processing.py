"""The Qwen-VL models' prompts: a picture of about the image's own size, in merge blocks between two marks."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from xmflow_jax.data.images import COLOURS, ImageLayout
from xmflow_jax.data.merged_patches import (
    LONGEST,
    PUBLISHED_LIMITS,
    PixelLimits,
    merged_layout,
    number_patches,
    resample_table,
    three_axis_place,
)
from xmflow_jax.data.place import Place
from xmflow_jax.data.processing import Processing, check_pictures, read_files
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.errors import CheckpointError, QuestionSetAside
from xmflow_jax.families.qwen2_vl.modeling import QwenVLConfig
from xmflow_jax.nn.qwen_vision import MOMENTS


@lru_cache(maxsize=256)
def image_layout(config: QwenVLConfig, size: tuple[int, int], limits: PixelLimits = PUBLISHED_LIMITS) -> ImageLayout:
    """Merge blocks of the resized image row by row, between the marks.

    Raises:
        QuestionSetAside: the image is more than two hundred times as long as it is short.
    """
    if max(size) > LONGEST * min(size):
        raise QuestionSetAside(
            f"the image of {size[0]}x{size[1]} is more than {LONGEST} times as long as it is short; "
            "the model's image processor refuses it"
        )
    return merged_layout(size, config.vision.factor, limits, (config.start_token, config.end_token))


def place(config: QwenVLConfig, tokens: Int32[np.ndarray, " positions"], images: Sequence[ImageLayout]) -> Place:
    """Ids on three axes: time, row, column."""
    return three_axis_place(tokens, config.image_token, images)


def numbered(config: QwenVLConfig, image_processor: Any, images: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """What `QwenVL.visual` reads of a prompt's images."""
    made = [image_processor(image, return_tensors="np") for image in images]
    grids = [(int(one["image_grid_thw"][0][1]), int(one["image_grid_thw"][0][2])) for one in made]
    colours = np.concatenate([one["pixel_values"] for one in made])
    return {COLOURS: np.ascontiguousarray(colours, dtype=np.float32), **patch_numbers(config, grids)}


def patch_numbers(config: QwenVLConfig, grids: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Where every patch of images with these (rows, columns) of patches lies."""
    vision = config.vision
    numbers = number_patches(grids, vision.merge, 0 if vision.window is None else vision.window // vision.factor)
    return numbers if vision.table is None else numbers | resample_table(grids, vision.merge, vision.table)


def resized_picture(
    config: QwenVLConfig, image_processor: Any, image: Image.Image
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture that the patches are cut out of, in the image's own colours."""
    made = image_processor(image, return_tensors="np", do_rescale=False, do_normalize=False)
    _, rows, columns = (int(one) for one in made["image_grid_thw"][0])
    merge, side = config.vision.merge, config.vision.patch_size
    # [block row, block column, row in it, column in it, colour, moment, pixel row, pixel column]
    blocks = made["pixel_values"].reshape(rows // merge, columns // merge, merge, merge, 3, MOMENTS, side, side)
    picture = blocks[:, :, :, :, :, 0].transpose(0, 2, 5, 1, 3, 6, 4)
    return np.ascontiguousarray(picture.reshape(rows * side, columns * side, 3), dtype=np.uint8)


def processing(directory: Path, config: QwenVLConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, or the image processor's output is not what the tower
            reads.
    """
    files = read_files(directory)
    limits = _limits(directory, files.image_processor)
    made = Processing(
        tokenizer=files.tokenizer,
        image_processor=files.image_processor,
        image_token_id=config.image_token,
        end_tokens=files.end_tokens,
        pixels=partial(numbered, config, files.image_processor),
        plain_pixels=partial(resized_picture, config, files.image_processor),
        image_layout=partial(image_layout, config, limits=limits),
        place=partial(place, config),
        one_layout=False,
    )
    oblong = (6 * config.vision.factor, 4 * config.vision.factor)
    patches = image_layout(config, oblong, limits).positions * config.vision.merge**2
    check_pictures(made, directory, oblong, (patches, config.vision.patch_numbers), lambda pixels: pixels[COLOURS])
    return made


def _limits(directory: Path, image_processor: Any) -> PixelLimits:
    size = getattr(image_processor, "size", None) or {}
    least, most = size.get("shortest_edge"), size.get("longest_edge")
    if not isinstance(least, int) or not isinstance(most, int) or not 0 < least <= most:
        raise CheckpointError(
            f"{directory}: the image processor's size is {size!r}; expected numbers of pixels, "
            "shortest_edge and longest_edge"
        )
    return PixelLimits(least, most)


def template(directory: Path, config: QwenVLConfig) -> Template:
    """ChatML, as the authors' chat has it."""
    return NAMED_TEMPLATES["qwen_vl"]
