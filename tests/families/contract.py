"""What every registered family is put through the contract with: the registry, tiny models, prompts made by the record.

The families are this package's and the proof's (`proof_family`), which exists in the tests alone.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pytest

from tests.families.proof_family.family import PROOF
from tests.knockout.tiny_study import TinyPrompt, mark_question
from xmflow_jax.data import roles
from xmflow_jax.data.anyres import blend_features, most_cells, read_features
from xmflow_jax.data.images import COLOURS, FEATURE, ImageLayout
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.family import Family
from xmflow_jax.families.idefics3 import processing as idefics3
from xmflow_jax.families.internvl import processing as internvl
from xmflow_jax.families.internvl.modeling import InternVLConfig
from xmflow_jax.families.llava_next.modeling import READS
from xmflow_jax.families.llava_next.processing import tiling
from xmflow_jax.families.llava_onevision import processing as llava_onevision
from xmflow_jax.families.llava_onevision.modeling import SHARES
from xmflow_jax.families.qwen2_vl import processing as qwen2_vl
from xmflow_jax.families.registry import all_families, registered
from xmflow_jax.nn.pictures import LEARNED
from xmflow_jax.weights.load import LoadedModel
from xmflow_jax.weights.random_checkpoint import write_random

# (width, height) of the images of tiny models.
PICTURE: Final = (28, 28)

# A family of another package is the tester's own to test.
with registered(PROOF):
    FAMILIES: Final = tuple(one for one in all_families() if one.build.__module__.startswith(("xmflow_jax.", "tests.")))
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)


def image_token(config: Any) -> int:
    """The id that marks an image position; 0 for a family whose images stand outside the prompt."""
    return int(getattr(config, "image_token", 0))


def image_layout_of(family: Family) -> ImageLayout:
    """Of the one picture that tiny models see."""
    return family.image_layout(family.tiny, PICTURE)


@lru_cache
def tiny_model(family: Family) -> LoadedModel:
    """The record's tiny configuration with random weights, under which attention is far from uniform."""
    with TemporaryDirectory() as folder, registered_for(family):
        write_random(Path(folder), family, family.tiny, seed=0)
        return load_model(Path(folder), "float32")


def registered_for(family: Family) -> AbstractContextManager[None]:
    """The registry with this family in it, whether it was or not."""
    return nullcontext() if family in all_families() else registered(family)


def random_squares(config: Any, images: int, rng: np.random.Generator, size: tuple[int, int] = PICTURE) -> Any:
    """What a model reads of so many images that are one square picture each."""
    side = config.vision.image_size
    return rng.normal(size=(images, side, side, 3)).astype(np.float32)


def random_tiles(config: Any, images: int, rng: np.random.Generator, size: tuple[int, int] = PICTURE) -> Any:
    """What LLaVA-NeXT reads of so many images of one (width, height), `PICTURE` by default."""
    cut, side = tiling(config, size), config.vision.image_size
    tiles = rng.normal(size=(images * (cut.tiles + 1), side, side, 3)).astype(np.float32)
    reads = [read_features(cut)] * images
    per_image = (cut.tiles + 1) * config.vision.patches
    numbered = [np.where(own == LEARNED, LEARNED, own + place * per_image) for place, own in enumerate(reads)]
    return {COLOURS: tiles, READS: np.concatenate(numbered).astype(np.int32)}


def random_resampled_tiles(config: Any, images: int, rng: np.random.Generator, size: tuple[int, int] = PICTURE) -> Any:
    """What LLaVA-OneVision reads of so many images of one (width, height), `PICTURE` by default."""
    cut, side = llava_onevision.tiling(config, size), config.vision.image_size
    tiles = rng.normal(size=(images * (cut.tiles + 1), side, side, 3)).astype(np.float32)
    reads, shares = blend_features(cut, most_cells(cut, config.most_tiles))
    per_image = (cut.tiles + 1) * config.vision.patches
    numbered = [np.where(reads == LEARNED, LEARNED, reads + place * per_image) for place in range(images)]
    return {
        COLOURS: tiles,
        READS: np.concatenate(numbered).astype(np.int32),
        SHARES: np.concatenate([shares] * images),
    }


def random_patches(config: Any, images: int, rng: np.random.Generator, size: tuple[int, int] = PICTURE) -> Any:
    """What Qwen2-VL, Qwen2.5-VL and Qwen3-VL read of so many images of one (width, height)."""
    layout, vision = qwen2_vl.image_layout(config, size), config.vision
    grid = (layout.rows * vision.merge, layout.columns * vision.merge)
    colours = rng.normal(size=(images * grid[0] * grid[1], vision.patch_numbers)).astype(np.float32)
    return {COLOURS: colours, **qwen2_vl.patch_numbers(config, [grid] * images)}


def random_split_tiles(config: Any, images: int, rng: np.random.Generator, size: tuple[int, int] = PICTURE) -> Any:
    """What InternVL, Idefics3 and SmolVLM read of so many images of one (width, height)."""
    module = internvl if isinstance(config, InternVLConfig) else idefics3
    tiles, side = module.image_layout(config, size).positions // config.side**2, config.vision.image_size
    return rng.normal(size=(images * tiles, side, side, 3)).astype(np.float32)


# What models of other families than the square ones read of images of `PICTURE`, by model type.
PIXELS: Final[dict[str, Callable[..., Any]]] = {
    "idefics3": random_split_tiles,
    "internvl": random_split_tiles,
    "llava_next": random_tiles,
    "llava_onevision": random_resampled_tiles,
    "qwen2_5_vl": random_patches,
    "qwen2_vl": random_patches,
    "qwen3_vl": random_patches,
    "smolvlm": random_split_tiles,
}


@dataclass(frozen=True)
class Words:
    """How many words a prompt has in each of its parts."""

    before: int = 3
    question: int = 4
    after: int = 3


def make_prompt(
    family: Family,
    seed: int,
    words: Words = Words(),
    images: int = 1,
    config: Any | None = None,
    size: tuple[int, int] = PICTURE,
) -> TinyPrompt:
    """System words, images as the record lays them out, question, words of the template; random pixels.

    A prompt whose image stands outside has that one's roles over the encoder's positions.

    Args:
        config: None: the record's tiny one.
        size: (width, height) of the images before processing.
    """
    config, rng = family.tiny if config is None else config, np.random.default_rng(seed)
    layout, anatomy = family.image_layout(config, size), family.anatomy(config)
    shown = np.concatenate([layout.tokens] * images)
    length = words.before + len(shown) + words.question + words.after
    asked = words.before + len(shown)
    # The last words of a vocabulary may be marks.
    tokens = rng.integers(1, anatomy.vocabulary - 5, length).astype(np.int32)
    tokens[words.before : asked] = np.where(shown == FEATURE, image_token(config), shown)
    is_image = np.zeros(length, bool)
    is_image[words.before : asked] = shown == FEATURE
    if not anatomy.image_in_prompt:
        is_image = np.ones(layout.positions, bool)
    mask = {role: np.zeros(len(is_image) if role in roles.IMAGE_ROLES else length, bool) for role in roles.ROLES}
    visual = np.flatnonzero(is_image)
    mask[roles.SYSTEM][: words.before] = True
    mask[roles.IMAGE][:] = is_image
    mask[roles.IMAGE_CENTRAL_OBJECT][visual[1:3]] = True
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = is_image & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mask[roles.IMAGE_PAD][visual[0]] = True
    mark_question(mask, asked, words.question)
    for role, positions in layout.views.items():
        mask[role][is_image] = np.tile(positions, images)
    pixels = PIXELS.get(family.model_type, random_squares)(config, images, rng, size)
    place = family.place(config, tokens, (layout,) * images if anatomy.image_in_prompt else ())
    return TinyPrompt(tokens, pixels, mask, place)


def make_prompts(family: Family, images: int = 1) -> Sequence[TinyPrompt]:
    """Of different lengths, so that rows are padded and start at different positions."""
    shapes = (Words(), Words(2, 7, 2), Words(5, 5, 6))
    return [make_prompt(family, seed, words, images) for seed, words in enumerate(shapes)]
