"""Gemma 3 as a family."""

from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.gemma3.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.gemma3.modeling import Gemma3, Gemma3Config
from xmflow_jax.families.gemma3.params import key_table
from xmflow_jax.families.gemma3.processing import image_layout, place, processing, template
from xmflow_jax.families.tower_decoder import anatomy, partitioning
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gemma import GemmaConfig

FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=Gemma3,
    keys=key_table,
    partitioning=partitioning,
    anatomy=anatomy,
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=Gemma3Config(
        ClipVisionConfig(
            image_size=28,
            patch_size=7,
            width=16,
            mlp_width=24,
            layers=2,
            heads=2,
            norm_eps=1e-6,
            activation="gelu_pytorch_tanh",
            patch_bias=True,
            pre_norm=False,
            final_norm=True,
            class_token=False,
        ),
        GemmaConfig(
            40,
            width=24,
            mlp_width=32,
            layers=4,
            heads=4,
            kv_heads=2,
            head_width=8,
            query_scalar=6,
            rope_theta=1e6,
            sliding_theta=1e4,
            positions=131072,
            model_type="gemma3_text",
            sliding=(True, True, False, True),
            span=5,
            strict=True,
            outer_norms=True,
            head_norms=True,
        ),
        side=2,
        image_token=40,  # no word's, so that no answer holds it
        begin_token=38,
        end_token=39,
    ),
)
