"""Gemma 3's prompts: images between marks and empty lines, whose positions see each other."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int32

from xmflow_jax.data.images import ImageLayout, patch_layout
from xmflow_jax.data.place import Place
from xmflow_jax.data.processing import Processing, read_processing
from xmflow_jax.data.templates import STUDY_QUESTION, Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.gemma3.modeling import Gemma3Config

# What the chat templates of its checkpoints give for a question of the study.
CHAT: Final = Template("gemma3", f"<start_of_turn>user\n<image>{STUDY_QUESTION}<end_of_turn>\n<start_of_turn>model\n")


@lru_cache(maxsize=64)
def image_layout(config: Gemma3Config, size: tuple[int, int]) -> ImageLayout:
    """The same for images of every size: the picture is stretched to a square. A mark and an empty line on both
    sides."""
    vision = config.vision
    plain = patch_layout(config.side, config.side, vision.grid // config.side * vision.patch_size, in_prompt=True)
    tokens = np.array([config.begin_token, *plain.tokens, config.end_token], np.int32)
    return ImageLayout(
        plain.rows, plain.columns, plain.side, plain.boxes, tokens, text_before="\n\n", text_behind="\n\n"
    )


def place(config: Gemma3Config, tokens: Int32[np.ndarray, " positions"], images: Sequence[ImageLayout]) -> Place:
    """A position's id is its index; every image is a block, its marks left out."""
    is_image = tokens == config.image_token
    begins = is_image & ~np.append(False, is_image[:-1])
    blocks = np.where(is_image, np.cumsum(begins), 0).astype(np.int32)
    return Place(np.arange(len(tokens), dtype=np.int32)[None], blocks=blocks)


def processing(directory: Path, config: Gemma3Config) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, or the image processor's output is not what the tower
            reads, or cuts images up.
    """
    read = read_processing(
        directory,
        image_token_id=config.image_token,
        image_size=config.vision.image_size,
        image_layout=partial(image_layout, config),
        place=partial(place, config),
    )
    if getattr(read.image_processor, "do_pan_and_scan", None):
        raise CheckpointError(
            f"{directory}: the image processor has do_pan_and_scan on, which cuts images up; supported: off"
        )
    return read


def template(directory: Path, config: Gemma3Config) -> Template:
    """The turns of its chat format."""
    return CHAT
