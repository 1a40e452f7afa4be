"""The benchmark's models and questions: random weights and words, real layout and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.benchmarks.pictures import PICTURES
from xmflow_jax.data import roles
from xmflow_jax.data.batch import StackPrompt
from xmflow_jax.data.place import Place, plain_place
from xmflow_jax.families.family import Family
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.families.registry import LLAVA, LLAVA_NEXT
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS
from xmflow_jax.knockout.study_rows import StudyRow, pathway_study
from xmflow_jax.knockout.windows import CENTRED
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig


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
    def image_positions(self) -> int:
        """Prompt positions of one image."""
        return self.family.image_layout(self.model, self.picture).positions


_SMALL = LlavaConfig(
    ClipVisionConfig(336, 14, width=256, mlp_width=1024, layers=12, heads=4),
    LlamaConfig(32000, width=512, mlp_width=1376, layers=16, heads=8, kv_heads=8, head_width=64),
    image_token=31999,
)
_SEVEN_B = LlavaConfig(
    ClipVisionConfig(336, 14, width=1024, mlp_width=4096, layers=24, heads=16),
    LlamaConfig(32064, width=4096, mlp_width=11008, layers=32, heads=32, kv_heads=32, head_width=128),
    image_token=32000,
)
_THIRTEEN_B = LlavaConfig(
    _SEVEN_B.vision,
    LlamaConfig(32064, width=5120, mlp_width=13824, layers=40, heads=40, kv_heads=40, head_width=128),
    image_token=32000,
)
_TINY = LlavaConfig(
    ClipVisionConfig(56, 14, width=32, mlp_width=64, layers=3, heads=2),
    LlamaConfig(100, width=64, mlp_width=96, layers=6, heads=4, kv_heads=4, head_width=16),
    image_token=99,
)
_CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_NEXT = LlavaNextConfig(_SMALL.vision, _SMALL.text, _SMALL.image_token, _CANVASES)
_NEXT_SEVEN_B = LlavaNextConfig(_SEVEN_B.vision, _SEVEN_B.text, _SEVEN_B.image_token, _CANVASES)
PRESETS: Mapping[str, Preset] = {
    "cpu-576": Preset(_SMALL, "float32", 1, 35, 32, window=5, questions=6, torch_knockouts=None, plain_knockouts=8),
    "cpu-2880": Preset(_SMALL, "float32", 5, 35, 32, window=5, questions=3, torch_knockouts=12, plain_knockouts=4),
    "llava-1.5-7b": Preset(
        _SEVEN_B,
        "bfloat16",
        1,
        35,
        32,
        window=9,
        questions=32,
        torch_knockouts=None,
        plain_knockouts=16,
        reference_knockouts=24,
    ),
    # A picture that fills the largest canvas: 2,928 positions.
    "next-2928": Preset(
        _NEXT,
        "float32",
        1,
        35,
        32,
        window=5,
        questions=3,
        torch_knockouts=12,
        plain_knockouts=4,
        family=LLAVA_NEXT,
        picture=(672, 672),
    ),
    # For a GPU of 80 GB or more.
    "llava-1.5-13b": Preset(
        _THIRTEEN_B,
        "bfloat16",
        1,
        35,
        32,
        window=9,
        questions=16,
        torch_knockouts=None,
        plain_knockouts=8,
        reference_knockouts=8,
    ),
    "llava-next-7b": Preset(
        _NEXT_SEVEN_B,
        "bfloat16",
        1,
        35,
        32,
        window=9,
        questions=16,
        torch_knockouts=48,
        plain_knockouts=8,
        reference_knockouts=8,
        family=LLAVA_NEXT,
        picture=(672, 672),
    ),
    "tiny": Preset(_TINY, "float32", 1, 5, 12, window=3, questions=3, torch_knockouts=None, plain_knockouts=8),
}


@dataclass(frozen=True, eq=False)
class RandomQuestion:
    """What a batch needs of a prepared question."""

    token_ids: np.ndarray
    pixels: Any
    roles: Mapping[str, np.ndarray]
    before: Mapping[str, StackPrompt] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """0, 1, ..."""
        return plain_place(len(self.token_ids))


def random_question(preset: Preset, seed: int) -> RandomQuestion:
    """Random words around random images; the part after the images varies by two words to either side."""
    rng = np.random.default_rng(seed)
    visual = preset.images * preset.image_positions
    after = preset.after + int(rng.integers(-2, 3))
    length = preset.before + visual + after
    asked = slice(preset.before + visual + 1, length - max(1, after // 2))
    central = preset.before + rng.choice(visual, max(1, visual // 6), replace=False)
    mask = {role: np.zeros(length, bool) for role in roles.ROLES}
    mask[roles.IMAGE][preset.before : preset.before + visual] = True
    mask[roles.IMAGE_CENTRAL_OBJECT][central] = True
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = mask[roles.IMAGE] & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mask[roles.QUESTION][asked] = True
    mask[roles.LAST][-1] = True
    tokens = rng.integers(3, min(preset.model.image_token, preset.model.text.vocabulary - 1), length)
    tokens[mask[roles.IMAGE]] = preset.model.image_token
    pixels = PICTURES[preset.family.model_type].draw(preset.model, preset.images, preset.picture, rng)
    return RandomQuestion(tokens.astype(np.int32), pixels, mask)


def study_rows(preset: Preset) -> tuple[StudyRow, ...]:
    """The study's six pathways, or the first of them, at every layer."""
    pathways = [(pathway, CENTRED) for pathway in STUDY_PATHWAYS[: preset.pathways]]
    return pathway_study(pathways, preset.family.anatomy(preset.model), preset.window)


def spread(count: int, chosen: int | None) -> list[int]:
    """`chosen` indexes spread evenly over `count`; all of them for None."""
    if chosen is None or chosen >= count:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, chosen).round()]
