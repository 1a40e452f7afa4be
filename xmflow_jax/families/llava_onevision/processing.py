"""LLaVA-OneVision's prompts: an image as a small whole and as the tiles of a large picture, resampled."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xmflow_jax.data.anyres import blend_features, most_cells, tiled_layout
from xmflow_jax.data.images import COLOURS, ImageLayout
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.errors import OptionError
from xmflow_jax.families.llava_next.processing import tiled_processing, tiles_of, tiling
from xmflow_jax.families.llava_onevision.modeling import READS, SHARES, LlavaOnevisionConfig


@lru_cache(maxsize=256)
def image_layout(config: LlavaOnevisionConfig, size: tuple[int, int]) -> ImageLayout:
    """The whole's patches, then the large picture's rows of kept patches, resampled, each with a newline behind it."""
    cut = tiling(config, size)
    return tiled_layout(cut, config.vision.patch_size, most_cells(cut, config.most_tiles))


def tiles_and_shares(
    config: LlavaOnevisionConfig, image_processor: Any, images: Sequence[Image.Image]
) -> dict[str, np.ndarray]:
    """What `LlavaOnevision.visual` reads of a prompt's image: all its tiles, and what each position is made of.

    Raises:
        OptionError: there are several images, which the model reads without tiles; that is not computed here.
    """
    if len(images) > 1:
        raise OptionError(
            f"the template shows the image {len(images)} times; LLaVA-OneVision reads several images without tiles, "
            "which is not supported: <image> must stand in it once"
        )
    (image,) = images
    cut = tiling(config, image.size)
    reads, shares = blend_features(cut, most_cells(cut, config.most_tiles))
    return {COLOURS: np.ascontiguousarray(tiles_of(image_processor, image)), READS: reads, SHARES: shares}


def processing(directory: Path, config: LlavaOnevisionConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: as of `tiled_processing`.
    """
    return tiled_processing(directory, config, partial(tiles_and_shares, config), partial(image_layout, config))


def template(directory: Path, config: LlavaOnevisionConfig) -> Template:
    """The authors' own in their evaluations."""
    return NAMED_TEMPLATES["qwen_1_5"]
