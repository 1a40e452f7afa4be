"""LLaVA-OneVision as a family."""

from functools import partial
from typing import Final

from xmflow_jax.data import roles
from xmflow_jax.families.family import Family
from xmflow_jax.families.llava_next.params import NEWLINE
from xmflow_jax.families.llava_onevision.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevision, LlavaOnevisionConfig
from xmflow_jax.families.llava_onevision.params import key_table
from xmflow_jax.families.llava_onevision.processing import image_layout, processing, template
from xmflow_jax.families.tower_decoder import PROJECTOR, anatomy, partitioning, place
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig

FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=LlavaOnevision,
    keys=key_table,
    partitioning=partial(partitioning, between={**PROJECTOR, NEWLINE: "the newline"}),
    anatomy=partial(anatomy, views=roles.VIEW_ROLES),
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=LlavaOnevisionConfig(
        ClipVisionConfig(
            image_size=28,
            patch_size=14,
            width=16,
            mlp_width=24,
            layers=2,
            heads=2,
            activation="gelu_pytorch_tanh",
            norm_eps=1e-6,
            patch_bias=True,
            pre_norm=False,
            class_token=False,
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
        image_token=39,
        canvases=((28, 28), (28, 56), (56, 28), (56, 56), (56, 84)),
        most_tiles=2,
    ),
)
