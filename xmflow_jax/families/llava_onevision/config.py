"""`config.json` of a LLaVA-OneVision checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.config import TEXT, VISION, feature_layer, head_is_embedding
from xmflow_jax.families.llava_next.config import read_canvases
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevisionConfig
from xmflow_jax.weights.clip_tower import SIGLIP, check_tower, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.text_decoder import QWEN2, check_text, read_text, write_text

MODEL_TYPE: Final = "llava_onevision"

# What `vision_aspect_ratio` begins with.
ASPECT: Final = "anyres_max_"

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
            "vision_aspect_ratio",
            "vision_config",
            "vision_feature_layer",
        }
    ),
    fixed={
        **COMMON_FIXED,
        # The original authors' checkpoints have another layout.
        "architectures": (["LlavaOnevisionForConditionalGeneration"], None),
        # SigLIP has no class token to drop.
        "vision_feature_select_strategy": ("full",),
        "use_image_newline_parameter": (True,),
    },
    harmless={
        **COMMON_HARMLESS,
        "ignore_index": "the label that training leaves out",
        "image_seq_length": "the processor's; image positions follow from each image's size",
        **dict.fromkeys(("video_token_id", "video_token_index"), "of videos, which are not asked about here"),
    },
)


def read_config(path: Path, published: Mapping[str, Any]) -> LlavaOnevisionConfig:
    """The configuration of a LLaVA-OneVision checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    text = published.get(TEXT, {})
    check_text(path, TEXT, text, usual=QWEN2)
    check_tower(path, VISION, published.get(VISION, {}), (SIGLIP,), usual=SIGLIP)
    filled = fill_defaults(path, published, "LlavaOnevisionConfig")
    vision = tower_sizes(path, VISION, filled.vision_config)
    return LlavaOnevisionConfig(
        vision=vision,
        text=read_text(path, TEXT, filled.text_config, tied=head_is_embedding(published, text)),
        image_token=size(path, "image_token_index", filled.image_token_index, least=0),
        canvases=read_canvases(path, filled.image_grid_pinpoints, vision.image_size),
        most_tiles=_most_tiles(path, filled.vision_aspect_ratio),
        feature_layer=feature_layer(path, filled),
        projector_activation=activation(path, "projector_hidden_act", filled.projector_hidden_act),
        projector_bias=bool(filled.multimodal_projector_bias),
    )


def _most_tiles(path: Path, told: Any) -> int:
    """How many tiles the large picture's patches are resampled to.

    Raises:
        CheckpointError: `vision_aspect_ratio` says nothing of the kind.
    """
    number = told.removeprefix(ASPECT) if isinstance(told, str) else ""
    if told != f"{ASPECT}{number}" or not number.isascii() or not number.isdigit() or not 0 < int(number[:4]) <= 999:
        raise CheckpointError(f"{path}: vision_aspect_ratio is {told!r}; supported: {ASPECT!r} and a number, as in 9")
    return int(number)


def write_config(config: LlavaOnevisionConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_index": config.image_token,
        "image_grid_pinpoints": [list(canvas) for canvas in config.canvases],
        "projector_hidden_act": config.projector_activation,
        "multimodal_projector_bias": config.projector_bias,
        "vision_feature_layer": config.feature_layer,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": f"{ASPECT}{config.most_tiles}",
        "tie_word_embeddings": config.text.tied,
        "text_config": write_text(config.text),
        "vision_config": write_tower(config.vision),
    }
