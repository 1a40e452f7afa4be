"""LLaVA-1.5's prompts: one square picture of each image, whose patches stand in the prompt row by row."""

from functools import partial
from pathlib import Path

from xmflow_jax.data.images import ImageLayout, patch_layout
from xmflow_jax.data.processing import Processing, read_processing
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.tower_decoder import place


def image_layout(config: LlavaConfig, size: tuple[int, int]) -> ImageLayout:
    """The same for images of every size; the class token, where it is kept, stands before the patches."""
    side = config.vision.image_size // config.vision.patch_size
    return patch_layout(
        side, side, config.vision.patch_size, class_positions=int(config.keep_class_token), in_prompt=True
    )


def processing(directory: Path, config: LlavaConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, or the image processor's output is not what the tower
            reads.
    """
    return read_processing(
        directory,
        image_token_id=config.image_token,
        image_size=config.vision.image_size,
        image_layout=partial(image_layout, config),
        place=partial(place, config),
    )


def template(directory: Path, config: LlavaConfig) -> Template:
    """Vicuna's: the published LLaVA-1.5 checkpoints were made with it."""
    return NAMED_TEMPLATES["vicuna_v1"]
