"""InternVL as a family."""

from functools import partial
from typing import Final

from xmflow_jax.data import roles
from xmflow_jax.families.family import Family
from xmflow_jax.families.internvl.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.internvl.modeling import InternVL, InternVLConfig
from xmflow_jax.families.internvl.params import key_table
from xmflow_jax.families.internvl.processing import image_layout, processing, template
from xmflow_jax.families.tower_decoder import anatomy, partitioning, place
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig

FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=InternVL,
    keys=key_table,
    partitioning=partitioning,
    anatomy=partial(anatomy, views=roles.SPLIT_VIEWS),
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=InternVLConfig(
        ClipVisionConfig(
            image_size=28,
            patch_size=7,
            width=16,
            mlp_width=24,
            layers=2,
            heads=2,
            norm_eps=1e-6,
            activation="gelu",
            patch_bias=True,
            pre_norm=False,
            closing_norm=False,
            layer_scale=True,
        ),
        LlamaConfig(
            vocabulary=40,
            width=24,
            mlp_width=32,
            layers=3,
            heads=4,
            kv_heads=2,
            head_width=6,
            model_type="qwen2",
            qkv_bias=True,
        ),
        join=2,
        image_token=39,
    ),
)
