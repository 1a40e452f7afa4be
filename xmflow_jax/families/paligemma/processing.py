"""PaliGemma's prompts: image, beginning of the text, question and a line end, all of which see each other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int32

from xmflow_jax.data.images import ImageLayout, patch_layout
from xmflow_jax.data.place import Place
from xmflow_jax.data.processing import Processing, read_processing
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.paligemma.modeling import PaliGemmaConfig

# The authors' prefix for short answers in English. The line end, which their processor puts behind every prompt, parts
# it from the answer.
SHORT_ANSWER: Final = Template("paligemma", "<image>answer en {question}\n")


def image_layout(config: PaliGemmaConfig, size: tuple[int, int]) -> ImageLayout:
    """The same for images of every size: the picture is stretched to a square."""
    return patch_layout(config.vision.grid, config.vision.grid, config.vision.patch_size, in_prompt=True)


def place(config: PaliGemmaConfig, tokens: Int32[np.ndarray, " positions"], images: Sequence[ImageLayout]) -> Place:
    """One block, counted from 1. What is generated behind it is causal."""
    length = len(tokens)
    return Place(np.arange(1, length + 1, dtype=np.int32)[None], delta=1, blocks=np.ones(length, np.int32))


def processing(directory: Path, config: PaliGemmaConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: a file is missing or cannot be read, or the image processor's output is not what the tower
            reads, or the tokenizer has nothing that begins a text.
    """
    read = read_processing(
        directory,
        image_token_id=config.image_token,
        image_size=config.vision.image_size,
        image_layout=partial(image_layout, config),
        place=partial(place, config),
    )
    if read.tokenizer.bos_token_id is None:
        raise CheckpointError(
            f"{directory}: the tokenizer has no token that begins a text; expected bos_token in tokenizer_config.json"
        )
    return replace(read, begins_behind_images=True)


def template(directory: Path, config: PaliGemmaConfig) -> Template:
    """The authors' prefix for short answers."""
    return SHORT_ANSWER
