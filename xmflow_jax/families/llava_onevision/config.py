"""`config.json` of a LLaVA-OneVision checkpoint in Hugging Face format: read in full or refused, and written."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.config import TEXT, VISION, feature_layer, head_is_embedding
from xmflow_jax.families.llava_next import config as llava_next
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevisionConfig
from xmflow_jax.weights.clip_tower import SIGLIP, check_tower, tower_sizes
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import Section
from xmflow_jax.weights.text_decoder import QWEN2, check_text, read_text

MODEL_TYPE: Final = "llava_onevision"

# What `vision_aspect_ratio` begins with.
ASPECT: Final = "anyres_max_"

WHOLE: Final = Section(
    name="",
    read=llava_next.WHOLE.read | {"vision_aspect_ratio"},
    fixed={
        **llava_next.WHOLE.fixed,
        "architectures": (["LlavaOnevisionForConditionalGeneration"], None),
        # SigLIP has no class token to drop.
        "vision_feature_select_strategy": ("full",),
    },
    harmless={
        **llava_next.WHOLE.harmless,
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
        canvases=llava_next.read_canvases(path, filled.image_grid_pinpoints, vision.image_size),
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
    if told != f"{ASPECT}{number}" or not re.fullmatch("[1-9][0-9]{0,2}", number):
        raise CheckpointError(f"{path}: vision_aspect_ratio is {told!r}; supported: {ASPECT!r} and a number, as in 9")
    return int(number)


def write_config(config: LlavaOnevisionConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    return {
        **llava_next.write_config(config, dtype),
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": f"{ASPECT}{config.most_tiles}",
    }
