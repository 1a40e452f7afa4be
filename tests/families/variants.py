"""Further small configurations of this package's families, for the contract: other towers, heads and flags."""

from dataclasses import replace
from typing import Any

from tests.weights.tiny_checkpoint import TINY
from xmflow_jax.families.llava_next.family import FAMILY as LLAVA_NEXT
from xmflow_jax.families.llava_onevision.family import FAMILY as LLAVA_ONEVISION
from xmflow_jax.families.registry import GEMMA_3, IDEFICS3, INTERNVL, PALIGEMMA, QWEN2_5_VL, QWEN2_VL, QWEN3_VL
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gpt2 import MODEL_WIDTH, Gpt2Config
from xmflow_jax.nn.rotary import RotaryScaling

CLIP = ClipVisionConfig(image_size=28, patch_size=14, width=16, mlp_width=24, layers=2, heads=2)
SIGLIP = replace(
    CLIP, activation="gelu_pytorch_tanh", norm_eps=1e-6, patch_bias=True, pre_norm=False, class_token=False
)
LLAMA_3_1 = RotaryScaling("llama3", 8.0, 1.0, 4.0, 64)
VIT = replace(CLIP, activation="gelu", norm_eps=1e-12, patch_bias=True, pre_norm=False, final_norm=True)
TEXT = Gpt2Config(vocabulary=40, width=24, mlp_width=32, layers=3, heads=4, positions=50)
ENCODER_DECODERS = {
    "clip": CrossAttentionConfig(CLIP, TEXT),
    "vit": CrossAttentionConfig(VIT, TEXT),
    "equal widths": CrossAttentionConfig(replace(CLIP, width=24), TEXT),
    "untied": CrossAttentionConfig(CLIP, replace(TEXT, tied=False)),
    "own scale, no class token": CrossAttentionConfig(CLIP, replace(TEXT, cross_scale=MODEL_WIDTH), False),
}

NEXT = LLAVA_NEXT.tiny
ONEVISION = LLAVA_ONEVISION.tiny
# Its window is shorter than a prompt, which sees all of itself all the same.
PALIGEMMA_2 = replace(
    PALIGEMMA.tiny,
    text=replace(
        PALIGEMMA.tiny.text,
        layers=4,
        query_scalar=6,
        model_type="gemma2",
        sliding=(True, False, True, False),
        span=3,
        softcap=4.0,
        final_softcap=6.0,
        outer_norms=True,
    ),
)

# Its images are longer than its window.
GEMMA_3_WIDE = replace(GEMMA_3.tiny, side=4, text=replace(GEMMA_3.tiny.text, rope_scaling=RotaryScaling("linear", 8.0)))

VARIANTS: dict[str, dict[str, Any]] = {
    "llava": {
        "tied": replace(TINY, text=replace(TINY.text, tied=True)),
        "no projector bias": replace(TINY, projector_bias=False),
        "features": replace(
            TINY, feature_layer=0, keep_class_token=True, projector_activation="quick_gelu", projector_bias=False
        ),
        "text": replace(TINY, text=replace(TINY.text, tied=True, rope_theta=5e5, norm_eps=1e-3, head_width=8)),
        "vision": replace(TINY, vision=replace(TINY.vision, norm_eps=1e-3, activation="gelu")),
        "mistral": replace(TINY, text=replace(TINY.text, model_type="mistral", span=5)),
        "qwen2, siglip": replace(
            TINY, text=replace(TINY.text, model_type="qwen2", qkv_bias=True, tied=True), vision=SIGLIP
        ),
        "llama 3.1": replace(TINY, text=replace(TINY.text, rope_scaling=LLAMA_3_1)),
    },
    "llava_next": {
        "tied": replace(NEXT, text=replace(NEXT.text, tied=True)),
        "mistral, features": replace(
            NEXT,
            text=replace(NEXT.text, model_type="mistral", span=7),
            feature_layer=1,
            projector_activation="quick_gelu",
            projector_bias=False,
        ),
        "llama 3": replace(NEXT, text=replace(NEXT.text, rope_theta=5e5), canvases=((56, 56), (84, 28))),
        "qwen2": replace(NEXT, text=replace(NEXT.text, model_type="qwen2", qkv_bias=True)),
    },
    "llava_onevision": {
        "tied": replace(ONEVISION, text=replace(ONEVISION.text, tied=True)),
        "features": replace(ONEVISION, feature_layer=0, projector_activation="quick_gelu", projector_bias=False),
        # A tile whose edge fills no patch, as the published ones have.
        "edges": replace(ONEVISION, vision=replace(ONEVISION.vision, image_size=32), canvases=((32, 32), (64, 64))),
    },
    "qwen2_5_vl": {
        "tied": replace(QWEN2_5_VL.tiny, text=replace(QWEN2_5_VL.tiny.text, tied=True)),
        "windows alone": replace(QWEN2_5_VL.tiny, vision=replace(QWEN2_5_VL.tiny.vision, whole_layers=())),
    },
    "qwen2_vl": {"tied": replace(QWEN2_VL.tiny, text=replace(QWEN2_VL.tiny.text, tied=True, rope_theta=1e4))},
    "qwen3_vl": {
        "tied": replace(QWEN3_VL.tiny, text=replace(QWEN3_VL.tiny.text, tied=True)),
        "deep from the last layer": replace(
            QWEN3_VL.tiny,
            vision=replace(QWEN3_VL.tiny.vision, deep_layers=(0, 1, 2), table=3),
            text=replace(QWEN3_VL.tiny.text, added=3, sections=(4, 1, 1)),
        ),
    },
    "internvl": {
        "qwen3, whole patches": replace(
            INTERNVL.tiny,
            vision=replace(INTERNVL.tiny.vision, qkv_bias=True, norm_eps=1e-3),
            text=replace(INTERNVL.tiny.text, model_type="qwen3", qkv_bias=False, head_norms=True, tied=True),
            join=1,
            feature_layer=1,
            projector_activation="gelu_pytorch_tanh",
        ),
        "llama": replace(INTERNVL.tiny, text=replace(INTERNVL.tiny.text, model_type="llama", qkv_bias=False)),
    },
    "idefics3": {
        "tied, whole tiles": replace(IDEFICS3.tiny, text=replace(IDEFICS3.tiny.text, tied=True, norm_eps=1e-3), join=4),
    },
    "vision-encoder-decoder": ENCODER_DECODERS,
    "gemma3": {
        "wide": GEMMA_3_WIDE,
        "no windows": replace(GEMMA_3.tiny, text=replace(GEMMA_3.tiny.text, sliding=(), span=None, strict=False)),
        "untied": replace(GEMMA_3.tiny, text=replace(GEMMA_3.tiny.text, tied=False)),
    },
    "paligemma": {
        "gemma2": PALIGEMMA_2,
        "untied": replace(PALIGEMMA.tiny, text=replace(PALIGEMMA.tiny.text, tied=False, norm_eps=1e-3, kv_heads=1)),
    },
}
