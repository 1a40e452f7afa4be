"""PaliGemma 1 and 2 as a family."""

from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.paligemma.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.paligemma.modeling import PaliGemma, PaliGemmaConfig
from xmflow_jax.families.paligemma.params import key_table
from xmflow_jax.families.paligemma.processing import image_layout, place, processing, template
from xmflow_jax.families.tower_decoder import anatomy, partitioning
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gemma import GemmaConfig

FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=PaliGemma,
    keys=key_table,
    partitioning=partitioning,
    anatomy=anatomy,
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=PaliGemmaConfig(
        ClipVisionConfig(
            image_size=28,
            patch_size=14,
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
        GemmaConfig(40, width=24, mlp_width=32, layers=3, heads=4, kv_heads=2, head_width=8, query_scalar=8),
        image_token=40,  # no word's, so that no answer holds it
    ),
)
