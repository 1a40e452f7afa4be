"""What every registered family is put through the contract with: the registry, tiny models, prompts made by the record.

The families are this package's and the proof's (`proof_family`), which exists in the tests alone.
"""

from collections.abc import Sequence
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
from xmflow_jax.data.images import FEATURE, ImageLayout
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import all_families, registered
from xmflow_jax.weights.load import LoadedModel
from xmflow_jax.weights.random_checkpoint import write_random

# A family of another package is the tester's own to test.
with registered(PROOF):
    FAMILIES: Final = tuple(one for one in all_families() if one.build.__module__.startswith(("xmflow_jax.", "tests.")))
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)


def image_token(config: Any) -> int:
    """The id that marks an image position; 0 for a family whose images stand outside the prompt."""
    return int(getattr(config, "image_token", 0))


def image_layout_of(family: Family) -> ImageLayout:
    """Of the one picture that tiny models see."""
    return family.image_layout(family.tiny, (28, 28))


@lru_cache
def tiny_model(family: Family) -> LoadedModel:
    """The record's tiny configuration with random weights, under which attention is far from uniform."""
    with TemporaryDirectory() as folder, registered_for(family):
        write_random(Path(folder), family, family.tiny, seed=0)
        return load_model(Path(folder), "float32")


def registered_for(family: Family) -> AbstractContextManager[None]:
    """The registry with this family in it, whether it was or not."""
    return nullcontext() if family in all_families() else registered(family)


@dataclass(frozen=True)
class Words:
    """How many words a prompt has in each of its parts."""

    before: int = 3
    question: int = 4
    after: int = 3


def make_prompt(
    family: Family, seed: int, words: Words = Words(), images: int = 1, config: Any | None = None
) -> TinyPrompt:
    """System words, images as the record lays them out, question, words of the template; random pixels.

    A prompt whose image stands outside has that one's roles over the encoder's positions.

    Args:
        config: None: the record's tiny one.
    """
    config, rng = family.tiny if config is None else config, np.random.default_rng(seed)
    layout, anatomy = family.image_layout(config, (28, 28)), family.anatomy(config)
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
    side = layout.rows * layout.side
    pixels = rng.normal(size=(images, side, side, 3)).astype(np.float32)
    place = family.place(config, tokens, (layout,) * images if anatomy.image_in_prompt else ())
    return TinyPrompt(tokens, pixels, mask, place)


def make_prompts(family: Family, images: int = 1) -> Sequence[TinyPrompt]:
    """Of different lengths, so that rows are padded and start at different positions."""
    shapes = (Words(), Words(2, 7, 2), Words(5, 5, 6))
    return [make_prompt(family, seed, words, images) for seed, words in enumerate(shapes)]
