"""`config.json` of an InternVL checkpoint in Hugging Face format ("-hf"): read in full or refused, and written.

The authors' own files (`internvl_chat`) need their code to run and are refused by their model type.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.internvl.modeling import InternVLConfig
from xmflow_jax.families.llava.config import TEXT, VISION, feature_layer
from xmflow_jax.families.llava.params import HEAD
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, shown, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.intern_vision import check_tower, tower_sizes, write_tower
from xmflow_jax.weights.safetensors_files import list_tensors
from xmflow_jax.weights.text_decoder import LLAMA, QWEN2, QWEN3, check_text, read_text, write_text

MODEL_TYPE: Final = "internvl"

# Most patches along a side of the square that makes one position.
MOST_JOINED: Final = 8

WHOLE: Final = Section(
    name="",
    read=frozenset(
        {
            "downsample_ratio",
            "image_token_id",
            "model_type",
            "projector_hidden_act",
            "text_config",
            "tie_word_embeddings",
            "vision_config",
            "vision_feature_layer",
        }
    ),
    fixed={
        **COMMON_FIXED,
        "architectures": (["InternVLForConditionalGeneration"], None),
        # What drops the class token, which fills no square.
        "vision_feature_select_strategy": ("default",),
    },
    harmless={
        **COMMON_HARMLESS,
        "image_seq_length": "the processor's; image positions follow from the tower's sizes",
        "ignore_index": "the label that training leaves out",
    },
)


def read_config(path: Path, published: Mapping[str, Any]) -> InternVLConfig:
    """The configuration of an InternVL checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    text = published.get(TEXT, {})
    check_text(path, TEXT, text, usual=QWEN2, supported=(QWEN2, QWEN3, LLAMA))
    check_tower(path, VISION, published.get(VISION, {}))
    filled = fill_defaults(path, published, "InternVLConfig")
    vision = tower_sizes(path, VISION, filled.vision_config)
    _unstretch(filled.text_config)
    return InternVLConfig(
        vision=vision,
        text=read_text(path, TEXT, filled.text_config, tied=_head_is_embedding(path, published, text)),
        join=_join(path, filled.downsample_ratio, vision.grid),
        image_token=size(path, "image_token_id", filled.image_token_id, least=0),
        feature_layer=feature_layer(path, filled),
        projector_activation=activation(path, "projector_hidden_act", filled.projector_hidden_act),
    )


def _unstretch(text: Any) -> None:
    """A dynamic rotary scaling taken out: it begins behind `max_position_embeddings`, beyond which no prompt goes."""
    rotary = getattr(text, "rope_parameters", None)
    if isinstance(rotary, dict) and rotary.get("rope_type", rotary.get("type")) == "dynamic":
        text.rope_parameters = {"rope_type": "default", "rope_theta": rotary.get("rope_theta")}


def _head_is_embedding(path: Path, published: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding: transformers 4 asked the decoder's flag, transformers 5 the whole's. Published
    files tell neither, and transformers 5 then takes the head that the files hold, if they hold one."""
    told = text.get("tie_word_embeddings", published.get("tie_word_embeddings"))
    return not _holds_head(path.parent) if told is None else bool(told)


def _holds_head(directory: Path) -> bool:
    """Whether the weights beside config.json have a head; not if there are none, or none that can be read."""
    try:
        names = list_tensors(directory)
    except CheckpointError:  # told once they are loaded
        return False
    return any(name.endswith(HEAD) for name in names)


def _join(path: Path, ratio: Any, grid: int) -> int:
    """How many patches along a side make one position.

    Raises:
        CheckpointError: no whole number of them, or one that does not divide a tile's.
    """
    for side in range(1, MOST_JOINED + 1):
        if ratio == 1 / side and grid % side == 0:
            return side
    raise CheckpointError(
        f"{path}: downsample_ratio is {shown(ratio)}; supported: one over a whole number that divides a tile's {grid} "
        f"patches a side, {MOST_JOINED} at most"
    )


def write_config(config: InternVLConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_id": config.image_token,
        "image_seq_length": config.side**2,
        "downsample_ratio": 1 / config.join,
        "projector_hidden_act": config.projector_activation,
        "vision_feature_layer": config.feature_layer,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": config.text.tied,
        "text_config": write_text(config.text),
        "vision_config": write_tower(config.vision),
    }
