"""`config.json` of a PaliGemma checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.paligemma.modeling import PaliGemmaConfig
from xmflow_jax.weights.clip_tower import SIGLIP, check_tower, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.gemma_text import GEMMA, GEMMA_2, check_gemma, read_gemma, write_gemma

MODEL_TYPE: Final = "paligemma"

_NOT_USED: Final = "a copy beside the parts that no computation reads"

WHOLE: Final = Section(
    name="",
    read=frozenset(
        {
            "image_token_id",
            "image_token_index",
            "model_type",
            "projection_dim",
            "text_config",
            "tie_word_embeddings",
            "vision_config",
        }
    ),
    fixed={**COMMON_FIXED, "architectures": (["PaliGemmaForConditionalGeneration"], None)},
    harmless={
        **COMMON_HARMLESS,
        **dict.fromkeys(("_vocab_size", "hidden_size", "num_image_tokens", "vocab_size"), _NOT_USED),
        "ignore_index": "the label that training leaves out",
    },
)

TEXT: Final = "text_config"
VISION: Final = "vision_config"
# PaliGemma's decoders were published without the key; transformers 5 sets it to True by itself.
_BOTH_WAYS: Final = (None, True)


def read_config(path: Path, published: Mapping[str, Any]) -> PaliGemmaConfig:
    """The configuration of a PaliGemma checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    check_gemma(path, TEXT, published.get(TEXT, {}), (GEMMA, GEMMA_2), _BOTH_WAYS)
    check_tower(path, VISION, published.get(VISION, {}), (SIGLIP,), usual=SIGLIP)
    filled = fill_defaults(path, published, "PaliGemmaConfig")
    # The outermost flag alone decides whether the head is the embedding (transformers 5).
    tied = bool(published.get("tie_word_embeddings", True))
    text = read_gemma(path, TEXT, filled.text_config, tied=tied)
    if filled.projection_dim != text.width:
        raise CheckpointError(
            f"{path}: projection_dim is {filled.projection_dim!r}; it must be {TEXT}.hidden_size, {text.width}"
        )
    return PaliGemmaConfig(
        vision=replace(tower_sizes(path, VISION, filled.vision_config), final_norm=True),
        text=text,
        image_token=size(path, "image_token_index", filled.image_token_index, least=0),
    )


def write_config(config: PaliGemmaConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_index": config.image_token,
        "projection_dim": config.text.width,
        "hidden_size": config.text.width,
        "tie_word_embeddings": config.text.tied,
        "text_config": write_gemma(config.text),
        "vision_config": write_tower(config.vision),
    }
