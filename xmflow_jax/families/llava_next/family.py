"""LLaVA-NeXT as a family."""

from functools import partial
from typing import Final

from xmflow_jax.data import roles
from xmflow_jax.families.family import Family
from xmflow_jax.families.llava_next.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.llava_next.modeling import LlavaNext, LlavaNextConfig
from xmflow_jax.families.llava_next.params import NEWLINE, key_table
from xmflow_jax.families.llava_next.processing import image_layout, processing, template
from xmflow_jax.families.tower_decoder import PROJECTOR, anatomy, partitioning, place
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig

FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=LlavaNext,
    keys=key_table,
    partitioning=partial(partitioning, between={**PROJECTOR, NEWLINE: "the newline"}),
    anatomy=partial(anatomy, views=roles.VIEW_ROLES),
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=LlavaNextConfig(
        ClipVisionConfig(image_size=28, patch_size=14, width=16, mlp_width=24, layers=2, heads=2),
        LlamaConfig(vocabulary=40, width=24, mlp_width=32, layers=3, heads=4, kv_heads=2, head_width=6),
        image_token=39,
        canvases=((28, 56), (56, 28), (56, 56)),
    ),
)
