"""Qwen2.5-VL as a family."""

from typing import Final

from xmflow_jax.families.qwen2_vl.config import Form
from xmflow_jax.families.qwen2_vl.family import make_family, tiny_config
from xmflow_jax.nn.qwen_vision import QwenVisionConfig
from xmflow_jax.weights import qwen_vision

QWEN2_5_VL: Final = Form("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig", qwen_vision.QWEN2_5)

FAMILY: Final = make_family(
    QWEN2_5_VL,
    tiny_config(
        QWEN2_5_VL.text_type,
        QwenVisionConfig(
            patch_size=14,
            merge=2,
            width=16,
            mlp_width=24,
            layers=3,
            heads=2,
            text_width=32,
            gated=True,
            window=56,
            whole_layers=(1,),
        ),
    ),
)
