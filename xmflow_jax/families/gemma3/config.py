"""`config.json` of a Gemma 3 checkpoint in Hugging Face format: read in full or refused, and written."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.gemma3.modeling import Gemma3Config
from xmflow_jax.weights.clip_tower import SIGLIP, check_tower, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.gemma_text import GEMMA_3, check_gemma, read_gemma, write_gemma

MODEL_TYPE: Final = "gemma3"

WHOLE: Final = Section(
    name="",
    read=frozenset(
        {
            "boi_token_id",
            "boi_token_index",
            "eoi_token_id",
            "eoi_token_index",
            "image_token_id",
            "image_token_index",
            "mm_tokens_per_image",
            "model_type",
            "text_config",
            "tie_word_embeddings",
            "vision_config",
        }
    ),
    fixed={**COMMON_FIXED, "architectures": (["Gemma3ForConditionalGeneration"], None)},
    harmless=COMMON_HARMLESS,
)

TEXT: Final = "text_config"
VISION: Final = "vision_config"
POSITIONS: Final = "mm_tokens_per_image"
# Prompts are causal but for their images.
_BOTH_WAYS: Final = (None, False)


def read_config(path: Path, published: Mapping[str, Any]) -> Gemma3Config:
    """The configuration of a Gemma 3 checkpoint that reads images.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    check_gemma(path, TEXT, published.get(TEXT, {}), (GEMMA_3,), _BOTH_WAYS)
    check_tower(path, VISION, published.get(VISION, {}), (SIGLIP,), usual=SIGLIP)
    filled = fill_defaults(path, published, "Gemma3Config")
    # The outermost flag alone decides whether the head is the embedding (transformers 5).
    tied = bool(published.get("tie_word_embeddings", True))
    vision = replace(tower_sizes(path, VISION, filled.vision_config), final_norm=True)
    return Gemma3Config(
        vision=vision,
        text=read_gemma(path, TEXT, filled.text_config, tied=tied),
        side=pooled_side(path, filled.mm_tokens_per_image, vision.grid),
        image_token=size(path, "image_token_index", filled.image_token_index, least=0),
        begin_token=size(path, "boi_token_index", filled.boi_token_index, least=0),
        end_token=size(path, "eoi_token_index", filled.eoi_token_index, least=0),
    )


def pooled_side(path: Path, positions: Any, grid: int) -> int:
    """Positions along one side of an image.

    Args:
        positions: of an image, as the file tells it.
        grid: patches along one side.

    Raises:
        CheckpointError: they are no square whose side divides the grid.
    """
    side = math.isqrt(size(path, POSITIONS, positions, most=grid**2))
    if side**2 != positions or grid % side:
        raise CheckpointError(
            f"{path}: {POSITIONS} is {positions}; it must be the square of a number that divides the {grid} patches "
            "along a side"
        )
    return side


def write_config(config: Gemma3Config, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_index": config.image_token,
        "boi_token_index": config.begin_token,
        "eoi_token_index": config.end_token,
        POSITIONS: config.side**2,
        "tie_word_embeddings": config.text.tied,
        "text_config": write_gemma(config.text),
        "vision_config": write_tower(config.vision),
    }
