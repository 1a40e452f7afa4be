"""LLaVA-NeXT's prompts: an image as a small whole and as the tiles of a large picture, cell by cell."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from xmflow_jax.data.anyres import Tiling, cut_image, draw_views, read_features, tiled_layout
from xmflow_jax.data.images import COLOURS, ImageLayout
from xmflow_jax.data.processing import Processing, check_pictures, read_files
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava_next.modeling import READS, LlavaNextConfig, TiledConfig
from xmflow_jax.families.tower_decoder import place
from xmflow_jax.nn.pictures import LEARNED
from xmflow_jax.weights.text_decoder import LLAMA, MISTRAL, QWEN2

# A vocabulary beyond it is not Llama 2's (32,000 words and a few), but Llama 3's.
_LLAMA_2_WORDS: Final = 40_000


def tiling(config: TiledConfig, size: tuple[int, int]) -> Tiling:
    """An image's tiles.

    Args:
        size: (width, height).
    """
    return cut_image(size, config.canvases, config.vision.image_size, config.vision.patch_size)


@lru_cache(maxsize=256)
def image_layout(config: LlavaNextConfig, size: tuple[int, int]) -> ImageLayout:
    """The whole's patches, then the large picture's rows of kept patches, each with a newline behind it."""
    return tiled_layout(tiling(config, size), config.vision.patch_size)


def tiles_and_reads(
    config: LlavaNextConfig, image_processor: Any, images: Sequence[Image.Image]
) -> dict[str, np.ndarray]:
    """What `LlavaNext.visual` reads of a prompt's images: all their tiles, and the patch of each position."""
    tiles, reads, before = [], [], 0
    per_tile = config.vision.patches
    for image in images:
        own = read_features(tiling(config, image.size))
        reads.append(np.where(own == LEARNED, LEARNED, own + before))
        tiles.append(tiles_of(image_processor, image))
        before += len(tiles[-1]) * per_tile
    return {
        COLOURS: np.ascontiguousarray(np.concatenate(tiles), dtype=np.float32),
        READS: np.concatenate(reads).astype(np.int32),
    }


def views(config: TiledConfig, image_processor: Any, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """The small whole and, below it, the large picture, in the image's own colours."""
    tiles = tiles_of(image_processor, image, do_rescale=False, do_normalize=False)
    # A tower leaves out the pixels at a tile's edge that fill no patch.
    seen = config.vision.grid * config.vision.patch_size
    return np.ascontiguousarray(draw_views(tiles[:, :seen, :seen], tiling(config, image.size)), dtype=np.uint8)


def tiles_of(image_processor: Any, image: Image.Image, **options: bool) -> np.ndarray:
    """[tile, height, width, 3], float32: what the image processor makes of an image."""
    channels_first = image_processor(image, return_tensors="np", **options)["pixel_values"][0]
    return np.moveaxis(channels_first, 1, -1).astype(np.float32)


def tiled_processing(
    directory: Path,
    config: TiledConfig,
    pixels: Callable[[Any, Sequence[Image.Image]], dict[str, np.ndarray]],
    layout: Callable[[tuple[int, int]], ImageLayout],
) -> Processing:
    """Tokenizer and image processor of a checkpoint whose images are cut into tiles.

    Args:
        pixels: (image processor, images) -> as of `Processing.pixels`.
        layout: as of `Processing.image_layout`.

    Raises:
        CheckpointError: a file is missing or cannot be read, the image processor's output is not what the tower reads,
            or it fits images to other canvases than `config.json` says.
    """
    files = read_files(directory)
    told = getattr(files.image_processor, "image_grid_pinpoints", None)
    if told is not None and [tuple(one) for one in told] != list(config.canvases):
        raise CheckpointError(
            f"{directory}: image_grid_pinpoints of the image processor and of config.json differ; they must agree"
        )
    made = Processing(
        tokenizer=files.tokenizer,
        image_processor=files.image_processor,
        image_token_id=config.image_token,
        end_tokens=files.end_tokens,
        pixels=partial(pixels, files.image_processor),
        plain_pixels=partial(views, config, files.image_processor),
        image_layout=layout,
        place=partial(place, config),
        one_layout=False,
    )
    side = config.vision.image_size
    oblong = (3 * side // 2, side)
    shape = (tiling(config, oblong).tiles + 1, side, side, 3)
    check_pictures(made, directory, oblong, shape, lambda made_pixels: made_pixels[COLOURS])
    return made


def processing(directory: Path, config: LlavaNextConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint.

    Raises:
        CheckpointError: as of `tiled_processing`.
    """
    return tiled_processing(directory, config, partial(tiles_and_reads, config), partial(image_layout, config))


def template(directory: Path, config: LlavaNextConfig) -> Template:
    """That of the decoder's own chat: the authors trained each of them with its own."""
    usual = {LLAMA: "vicuna_v1", MISTRAL: "mistral_instruct", QWEN2: "qwen_1_5"}[config.text.model_type]
    if config.text.model_type == LLAMA and config.text.vocabulary > _LLAMA_2_WORDS:
        usual = "llava_llama_3"
    return NAMED_TEMPLATES[usual]
