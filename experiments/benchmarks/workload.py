"""A benchmark's sizes, its random questions and its study; `presets` has the benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.benchmarks.pictures import PICTURES
from xmflow_jax.data import roles
from xmflow_jax.data.batch import StackPrompt
from xmflow_jax.data.images import FEATURE, ImageLayout
from xmflow_jax.data.place import Place
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS
from xmflow_jax.knockout.study_rows import StudyRow, pathway_study
from xmflow_jax.knockout.windows import CENTRED


@dataclass(frozen=True)
class Preset:
    """One benchmark.

    Attributes:
        model: of `family`.
        images: images in a prompt.
        before, after: words before the images and (about) after them.
        window: width of the centred windows.
        questions: timed questions of the fast engine.
        torch_knockouts: full PyTorch passes that are timed, spread evenly over the study; each of the study's passes
            costs the same. None: all of them.
        plain_knockouts: likewise for the plain engine.
        reference_knockouts: likewise for PyTorch in float32, where `dtype` is a smaller type.
        pathways: how many of the study's six, from the first on.
        picture: (width, height) of the images before processing.
    """

    model: Any
    dtype: str
    images: int
    before: int
    after: int
    window: int
    questions: int
    torch_knockouts: int | None
    plain_knockouts: int
    reference_knockouts: int = 0
    pathways: int = len(STUDY_PATHWAYS)
    family: Family = LLAVA
    picture: tuple[int, int] = (336, 336)

    @property
    def layout(self) -> ImageLayout:
        """Of one image."""
        return self.family.image_layout(self.model, self.picture)

    @property
    def image_positions(self) -> int:
        """Prompt positions of one image that hold features."""
        return self.layout.positions


@dataclass(frozen=True, eq=False)
class RandomQuestion:
    """What a batch needs of a prepared question."""

    token_ids: np.ndarray
    pixels: Any
    roles: Mapping[str, np.ndarray]
    place: Place
    before: Mapping[str, StackPrompt] = field(default_factory=dict)


def random_question(preset: Preset, seed: int) -> RandomQuestion:
    """Random words around random images; the part after the images varies by two words to either side."""
    rng, model, layout = np.random.default_rng(seed), preset.model, preset.layout
    shown = np.tile(layout.tokens, preset.images)
    after = preset.after + int(rng.integers(-2, 3))
    asked = preset.before + len(shown)
    length = asked + after
    tokens = rng.integers(3, min(model.image_token, model.text.vocabulary - 1), length)
    tokens[preset.before : asked] = np.where(shown == FEATURE, model.image_token, shown)
    mask = {role: np.zeros(length, bool) for role in roles.ROLES}
    mask[roles.IMAGE][preset.before : asked] = shown == FEATURE
    features = np.flatnonzero(mask[roles.IMAGE])
    mask[roles.IMAGE_CENTRAL_OBJECT][rng.choice(features, max(1, len(features) // 6), replace=False)] = True
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = mask[roles.IMAGE] & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mask[roles.QUESTION][asked + 1 : length - max(1, after // 2)] = True
    mask[roles.LAST][-1] = True
    pixels = PICTURES[preset.family.model_type].draw(model, preset.images, preset.picture, rng)
    token_ids = tokens.astype(np.int32)
    return RandomQuestion(token_ids, pixels, mask, preset.family.place(model, token_ids, (layout,) * preset.images))


def study_rows(preset: Preset) -> tuple[StudyRow, ...]:
    """The study's six pathways, or the first of them, at every layer."""
    pathways = [(pathway, CENTRED) for pathway in STUDY_PATHWAYS[: preset.pathways]]
    return pathway_study(pathways, preset.family.anatomy(preset.model), preset.window)


def spread(count: int, chosen: int | None) -> list[int]:
    """`chosen` indexes spread evenly over `count`; all of them for None."""
    if chosen is None or chosen >= count:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, chosen).round()]
