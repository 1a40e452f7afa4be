"""`config.json` of a LLaVA-NeXT checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xmflow_jax.data.anyres import Canvas
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.config import TEXT, VISION, feature_layer
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig, TiledConfig
from xmflow_jax.weights.clip_tower import CLIP, check_tower, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.text_decoder import check_text, read_text, write_text

MODEL_TYPE: Final = "llava_next"

# More canvases than any published checkpoint has (36).
MOST_CANVASES: Final = 400

WHOLE: Final = Section(
    name="",
    read=frozenset(
        {
            "image_grid_pinpoints",
            "image_token_id",
            "image_token_index",
            "model_type",
            "multimodal_projector_bias",
            "projector_hidden_act",
            "text_config",
            "tie_word_embeddings",
            "vision_config",
            "vision_feature_layer",
        }
    ),
    fixed={
        **COMMON_FIXED,
        # The original authors' checkpoints have another layout.
        "architectures": (["LlavaNextForConditionalGeneration"], None),
        # What drops the class token that CLIP has.
        "vision_feature_select_strategy": ("default",),
        "use_image_newline_parameter": (True,),
    },
    harmless={
        **COMMON_HARMLESS,
        "ignore_index": "the label that training leaves out",
        "image_seq_length": "the processor's; image positions follow from each image's size",
    },
)


def read_config(path: Path, published: Mapping[str, Any]) -> LlavaNextConfig:
    """The configuration of a LLaVA-NeXT checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    check_text(path, TEXT, published.get(TEXT, {}))
    check_tower(path, VISION, published.get(VISION, {}), (CLIP,), usual=CLIP)
    filled = fill_defaults(path, published, "LlavaNextConfig")
    vision = tower_sizes(path, VISION, filled.vision_config)
    return LlavaNextConfig(
        vision=vision,
        # Only the whole's flag ties (transformers 5: `LlavaNextConfig`).
        text=read_text(path, TEXT, filled.text_config, tied=bool(published.get("tie_word_embeddings", False))),
        image_token=size(path, "image_token_index", filled.image_token_index, least=0),
        canvases=read_canvases(path, filled.image_grid_pinpoints, vision.image_size),
        feature_layer=feature_layer(path, filled),
        projector_activation=activation(path, "projector_hidden_act", filled.projector_hidden_act),
        projector_bias=bool(filled.multimodal_projector_bias),
    )


def read_canvases(path: Path, found: Any, tile: int) -> tuple[Canvas, ...]:
    """The large pictures' sizes, (height, width) in pixels.

    Args:
        path: of the file, for messages.
        found: `image_grid_pinpoints`.
        tile: side in pixels.

    Raises:
        CheckpointError: it is no list of pairs, or a size is no multiple of a tile's.
    """
    expected = f"expected 1 to {MOST_CANVASES} pairs of a height and a width, each a multiple of {tile}"
    pairs = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
    canvases = tuple(tuple(pair) if isinstance(pair, Sequence) else () for pair in pairs[: MOST_CANVASES + 1])
    if not 1 <= len(canvases) <= MOST_CANVASES or not all(_is_canvas(one, tile) for one in canvases):
        raise CheckpointError(f"{path}: image_grid_pinpoints is {str(found)[:60]}; {expected}")
    return canvases


def _is_canvas(pair: tuple[Any, ...], tile: int) -> bool:
    return len(pair) == 2 and all(type(side) is int and 0 < side <= 100 * tile and side % tile == 0 for side in pair)


def write_config(config: TiledConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    return {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_index": config.image_token,
        "image_grid_pinpoints": [list(canvas) for canvas in config.canvases],
        "projector_hidden_act": config.projector_activation,
        "multimodal_projector_bias": config.projector_bias,
        "vision_feature_layer": config.feature_layer,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": config.text.tied,
        "text_config": write_text(config.text),
        "vision_config": write_tower(config.vision),
    }
