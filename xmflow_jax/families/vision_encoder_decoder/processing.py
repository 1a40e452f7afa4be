"""A vision encoder-decoder's prompts: text alone, beside one square picture of the image."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from xmflow_jax.data.images import ImageLayout, patch_layout
from xmflow_jax.data.place import Place, plain_place
from xmflow_jax.data.processing import Processing, read_processing
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig


def image_layout(config: CrossAttentionConfig, size: tuple[int, int]) -> ImageLayout:
    """The encoder's positions, the same for images of every size; a class token that is read stands first."""
    side = config.vision.image_size // config.vision.patch_size
    return patch_layout(
        side, side, config.vision.patch_size, class_positions=int(config.keep_class_token), in_prompt=False
    )


def place(
    config: CrossAttentionConfig, tokens: Int32[np.ndarray, " positions"], images: Sequence[ImageLayout]
) -> Place:
    """A position's id is its index."""
    return plain_place(len(tokens))


def processing(directory: Path, config: CrossAttentionConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, or the image processor's output is not what the encoder
            reads.
    """
    return read_processing(
        directory,
        image_token_id=None,
        image_size=config.vision.image_size,
        image_layout=partial(image_layout, config),
        place=partial(place, config),
    )


def template(directory: Path, config: CrossAttentionConfig) -> Template:
    """The study's turn without a place for the image."""
    return NAMED_TEMPLATES["plain_text"]
