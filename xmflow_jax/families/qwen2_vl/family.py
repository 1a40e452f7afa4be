"""Qwen2-VL as a family, and how Qwen2.5-VL is made one."""

from functools import partial
from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.qwen2_vl.config import QWEN2_VL, Form, read_config, write_config
from xmflow_jax.families.qwen2_vl.modeling import QwenVL, QwenVLConfig
from xmflow_jax.families.qwen2_vl.params import key_table
from xmflow_jax.families.qwen2_vl.processing import image_layout, place, processing, template
from xmflow_jax.families.tower_decoder import anatomy, partitioning
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.qwen_vision import QwenVisionConfig


def make_family(form: Form, tiny: QwenVLConfig) -> Family:
    """The record of one of the two."""
    return Family(
        model_type=form.model_type,
        read_config=partial(read_config, form),
        write_config=partial(write_config, form),
        build=QwenVL,
        keys=key_table,
        partitioning=partial(partitioning, tower="visual_tower", between={}),
        anatomy=anatomy,
        processing=processing,
        image_layout=image_layout,
        place=place,
        template=template,
        tiny=tiny,
    )


def tiny_config(model_type: str, vision: QwenVisionConfig) -> QwenVLConfig:
    """With this tower; the vocabulary's last words are the marks."""
    text = LlamaConfig(
        vocabulary=40,
        width=vision.text_width,
        mlp_width=32,
        layers=3,
        heads=4,
        kv_heads=2,
        head_width=vision.text_width // 4,
        norm_eps=1e-6,
        rope_theta=1e6,
        model_type=model_type,
        qkv_bias=True,
        sections=(2, 1, 1),
    )
    return QwenVLConfig(vision, text, image_token=39, start_token=38, end_token=37)


FAMILY: Final = make_family(
    QWEN2_VL,
    tiny_config(
        QWEN2_VL.text_type,
        QwenVisionConfig(
            patch_size=14,
            merge=2,
            width=16,
            mlp_width=32,
            layers=2,
            heads=2,
            text_width=32,
            gated=False,
            activation="quick_gelu",
        ),
    ),
)
