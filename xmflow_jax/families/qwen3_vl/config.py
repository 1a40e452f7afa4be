"""`config.json` of a Qwen3-VL checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.qwen2_vl.config import MARKS, SECTIONS, TEXT, VISION, joined, read_text_by_axes
from xmflow_jax.families.qwen2_vl.modeling import QwenVLConfig
from xmflow_jax.weights import qwen_vision
from xmflow_jax.weights.config_checks import check_keys, fill_defaults
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.text_decoder import QWEN3_KEYS, check_theta, write_text

MODEL_TYPE: Final = "qwen3_vl"
TEXT_TYPE: Final = "qwen3_vl_text"
# Says that the rotary sections take turns, which is what is computed.
_INTERLEAVED: Final = "mrope_interleaved"
_USUAL_SECTIONS: Final = (24, 20, 20)

WHOLE: Final = Section(
    name="",
    read=frozenset({*MARKS.values(), "model_type", "text_config", "tie_word_embeddings", "vision_config"}),
    fixed={**COMMON_FIXED, "architectures": (["Qwen3VLForConditionalGeneration"], None)},
    harmless={**COMMON_HARMLESS, "video_token_id": "of videos, which are not asked about here"},
)


def read_config(path: Path, published: Mapping[str, Any]) -> QwenVLConfig:
    """The configuration of a Qwen3-VL checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    text = published.get(TEXT, {})
    check_keys(path, Section(TEXT, *QWEN3_KEYS), text, TEXT_TYPE)
    check_theta(path, TEXT, text)
    tower = qwen_vision.check_tower(path, VISION, published.get(VISION, {}), qwen_vision.QWEN3)
    filled = fill_defaults(path, {**published, VISION: tower}, "Qwen3VLConfig")
    vision = qwen_vision.read_tower(path, VISION, filled.vision_config, qwen_vision.QWEN3)
    rotary = filled.text_config.rope_parameters
    if isinstance(rotary, dict) and rotary.pop(_INTERLEAVED, True) is not True:
        raise CheckpointError(f"{path}: {TEXT}'s {_INTERLEAVED} is not true; supported: true")
    # A flag in the decoder's part alone does not tie in transformers.
    tied = bool(published.get("tie_word_embeddings", False))
    decoder = read_text_by_axes(path, filled.text_config, _USUAL_SECTIONS, tied)
    if len(vision.deep_layers) > decoder.layers:
        raise CheckpointError(
            f"{path}: the tower has features for {len(vision.deep_layers)} layers of the decoder, which has "
            f"{decoder.layers}"
        )
    decoder = replace(decoder, interleaved=True, head_norms=True, added=len(vision.deep_layers))
    return joined(path, filled, vision, decoder)


def write_config(config: QwenVLConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    text = write_text(config.text)
    assert config.text.sections is not None, "positions have three axes"
    rotary = {
        "rope_type": "default",
        "rope_theta": text.pop("rope_theta"),
        SECTIONS: list(config.text.sections),
        _INTERLEAVED: True,
    }
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        **{key: getattr(config, ours) for ours, key in MARKS.items()},
        "tie_word_embeddings": config.text.tied,
        "text_config": {**text, "model_type": TEXT_TYPE, "rope_parameters": rotary},
        "vision_config": qwen_vision.write_tower(config.vision),
    }
