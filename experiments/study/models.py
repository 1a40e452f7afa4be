"""The study's four models: where their files are expected, how each was asked and blocked, and a stand-in for each.

Source: released code of arXiv 2411.18620 (prompt styles) and its published plots (widths of the windows).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.families.registry import find_family
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.study.shipped import write_image_processor
from xmflow_jax.weights.random_checkpoint import write_random

TILE: Final = 336
CANVASES: Final = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
# Published depths; the width of a stand-in shrinks instead.
_TOWER_LAYERS: Final = 4
_WIDTH: Final = 64


@dataclass(frozen=True)
class StudyModel:
    """One of the four.

    Attributes:
        name: as people call it; also the run folder's.
        directory: the checkpoint's folder under `--models`, named as its repository.
        family: its `model_type`.
        layers: of the decoder.
        window: width of the blocked windows in the published plots.
        template: the prompt that the study used.
        shared: heads that read the same keys and values, in the stand-in too.
        theta: base of the rotary angles.
    """

    name: str
    directory: str
    family: str
    layers: int
    window: int
    template: str
    shared: int = 1
    theta: float = 1e4


MODELS: Final = (
    StudyModel("LLaVA-1.5-7B", "llava-1.5-7b-hf", "llava", 32, 7, "vicuna_v1"),
    StudyModel("LLaVA-1.5-13B", "llava-1.5-13b-hf", "llava", 40, 9, "vicuna_v1"),
    StudyModel("LLaVA-v1.6-Vicuna-7B", "llava-v1.6-vicuna-7b-hf", "llava_next", 32, 7, "vicuna_v1"),
    StudyModel("Llama3-LLaVA-NEXT-8B", "llama3-llava-next-8b-hf", "llava_next", 32, 7, "llava_llama_3", 4, 5e5),
)


def write_stand_in(folder: Path, model: StudyModel, seed: int = 0) -> Path:
    """A checkpoint of the model's layout, depth and pictures, of small width, with random weights; returns `folder`.

    Its curves mean nothing; it proves that the recipe runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = write_demo_tokenizer(folder)
    write_image_processor(folder, TILE)
    vision = ClipVisionConfig(TILE, 14, width=32, mlp_width=64, layers=_TOWER_LAYERS, heads=2)
    text = LlamaConfig(
        words,
        _WIDTH,
        2 * _WIDTH,
        model.layers,
        heads=4,
        kv_heads=4 // model.shared,
        head_width=_WIDTH // 4,
        rope_theta=model.theta,
    )
    config = _CONFIGS[model.family](vision, text, words - 1)
    if model.family == "llava_next":
        _make_tiled(folder / "preprocessor_config.json")
    write_random(folder, find_family(model.family, folder), config, seed=seed)
    return folder


def _tiled(vision: ClipVisionConfig, text: LlamaConfig, image_token: int) -> LlavaNextConfig:
    return LlavaNextConfig(vision, text, image_token, CANVASES)


_CONFIGS: Final[dict[str, Callable[[ClipVisionConfig, LlamaConfig, int], Any]]] = {
    "llava": LlavaConfig,
    "llava_next": _tiled,
}


def _make_tiled(file: Path) -> None:
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {
        "image_processor_type": "LlavaNextImageProcessor",
        "image_grid_pinpoints": [list(canvas) for canvas in CANVASES],
    }
    file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
