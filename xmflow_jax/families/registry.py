"""The model families: which module a configuration builds."""

from typing import Any

from flax import nnx

from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig, CrossAttentionModel

ModelConfig = LlavaConfig | CrossAttentionConfig

# `model_type` in a published config.json.
LLAVA, ENCODER_DECODER = "llava", "vision-encoder-decoder"


def family_of(config: ModelConfig) -> str:
    """The published model type of a configuration."""
    return LLAVA if isinstance(config, LlavaConfig) else ENCODER_DECODER


def build_model(config: ModelConfig, *, dtype: Any, rngs: nnx.Rngs) -> nnx.Module:
    """The module with fresh parameters."""
    if isinstance(config, LlavaConfig):
        return Llava(config, dtype=dtype, rngs=rngs)
    return CrossAttentionModel(config, dtype=dtype, rngs=rngs)
