"""`config.json` of a Qwen2-VL or Qwen2.5-VL checkpoint in Hugging Face format: read in full or refused, and written.

Files of before have the decoder's keys beside the model's own; later ones in `text_config`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.qwen2_vl.modeling import QwenVLConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.qwen_vision import QwenVisionConfig
from xmflow_jax.weights import qwen_vision
from xmflow_jax.weights.config_checks import check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.text_decoder import QWEN2_KEYS, check_theta, read_text, write_text

TEXT: Final = "text_config"
VISION: Final = "vision_config"
MARKS: Final = {
    "image_token": "image_token_id",
    "start_token": "vision_start_token_id",
    "end_token": "vision_end_token_id",
}
SECTIONS: Final = "mrope_section"
# What the rotary type is called where positions have three axes.
_MROPE: Final = "mrope"
_USUAL_SECTIONS: Final = (16, 24, 24)


@dataclass(frozen=True)
class Form:
    """What tells the two apart in a file.

    Attributes:
        model_type: of the whole; the decoder's part has `_text` behind it.
        architecture: the class that saved the file.
        filled_by: transformers' configuration class.
        tower: the tower's type.
    """

    model_type: str
    architecture: str
    filled_by: str
    tower: str

    @property
    def text_type(self) -> str:
        return f"{self.model_type}_text"


QWEN2_VL: Final = Form("qwen2_vl", "Qwen2VLForConditionalGeneration", "Qwen2VLConfig", qwen_vision.QWEN2)


def _whole(form: Form) -> Section:
    return Section(
        name="",
        read=frozenset({*MARKS.values(), "model_type", "text_config", "tie_word_embeddings", "vision_config"}),
        fixed={**COMMON_FIXED, "architectures": ([form.architecture], None)},
        harmless={
            **COMMON_HARMLESS,
            **dict.fromkeys(("video_token_id", "vision_token_id"), "of videos, which are not asked about here"),
        },
    )


def _nested(published: Mapping[str, Any]) -> dict[str, Any]:
    """The file with the decoder's keys in `text_config`."""
    if TEXT in published:
        return dict(published)
    own = _text_section("").read | _text_section("").fixed.keys() | _text_section("").harmless.keys()
    # What both may have stands for the whole; ties are told there.
    told = {"model_type", "tie_word_embeddings", *COMMON_HARMLESS, *COMMON_FIXED}
    text = {key: value for key, value in published.items() if key in own - told}
    return {key: value for key, value in published.items() if key not in text} | {TEXT: text}


def _text_section(name: str) -> Section:
    read, fixed, harmless = QWEN2_KEYS
    return Section(name, read, fixed, harmless)


def read_config(form: Form, path: Path, published: Mapping[str, Any]) -> QwenVLConfig:
    """The configuration of a checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    nested = _nested(published)
    check_keys(path, _whole(form), nested, form.model_type)
    check_keys(path, _text_section(TEXT), nested[TEXT], form.text_type)
    check_theta(path, TEXT, nested[TEXT])
    nested[VISION] = qwen_vision.check_tower(path, VISION, nested.get(VISION, {}), form.tower)
    filled = fill_defaults(path, nested, form.filled_by)
    tied = bool(nested.get("tie_word_embeddings", False) or nested[TEXT].get("tie_word_embeddings", False))
    text = replace(read_text_by_axes(path, filled.text_config, _USUAL_SECTIONS, tied), qkv_bias=True)
    vision = qwen_vision.read_tower(path, VISION, filled.vision_config, form.tower)
    return joined(path, filled, vision, text)


def joined(path: Path, filled: Any, vision: QwenVisionConfig, text: LlamaConfig) -> QwenVLConfig:
    """Tower and decoder, with the marks of images.

    Raises:
        CheckpointError: they do not fit each other, or a mark is no word.
    """
    if vision.text_width != text.width:
        raise CheckpointError(
            f"{path}: the tower's features have a width of {vision.text_width}, the decoder {text.width}; "
            "they must agree"
        )
    marks = {ours: size(path, key, getattr(filled, key), least=0) for ours, key in MARKS.items()}
    return QwenVLConfig(vision, text, **marks)


def read_text_by_axes(path: Path, filled: Any, usual: tuple[int, int, int], tied: bool) -> LlamaConfig:
    """The decoder, its rotary sections taken out of what else its form has.

    Args:
        filled: transformers' object, whose defaults are filled in.
        usual: the sections of a file that names none.

    Raises:
        CheckpointError: a value that is not computed here.
    """
    rotary = dict(filled.rope_parameters or {})
    sections = rotary.pop(SECTIONS, usual)
    if rotary.get("type") == _MROPE:
        del rotary["type"]
    if rotary.get("rope_type") == _MROPE:
        rotary["rope_type"] = "default"
    filled.rope_parameters = rotary
    text = read_text(path, TEXT, filled, tied=tied)
    if text.rope_scaling is not None:
        raise CheckpointError(
            f"{path}: {TEXT}'s rotary type is {text.rope_scaling.kind!r}; supported: 'default', 'mrope'"
        )
    half = text.head_width // 2
    whole = isinstance(sections, list | tuple) and all(type(one) is int and one >= 0 for one in sections)
    if not whole or len(sections) != 3 or sum(sections) != half:
        raise CheckpointError(
            f"{path}: {TEXT}'s {SECTIONS} is {sections!r}; expected three numbers with the sum {half}"
        )
    return replace(text, sections=(sections[0], sections[1], sections[2]))


def write_config(form: Form, config: QwenVLConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    text = write_text(config.text)
    del text["head_dim"]
    assert config.text.sections is not None, "positions have three axes"
    rotary = {"rope_type": "default", "rope_theta": text.pop("rope_theta"), SECTIONS: list(config.text.sections)}
    return {
        "architectures": [form.architecture],
        "model_type": form.model_type,
        "dtype": dtype,
        **{key: getattr(config, ours) for ours, key in MARKS.items()},
        "tie_word_embeddings": config.text.tied,
        "text_config": {**text, "model_type": form.text_type, "rope_parameters": rotary},
        "vision_config": qwen_vision.write_tower(config.vision),
    }
