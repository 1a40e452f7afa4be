"""Idefics3 as a family."""

from functools import partial
from typing import Final

from xmflow_jax.data import roles
from xmflow_jax.families.family import Family
from xmflow_jax.families.idefics3.config import IDEFICS3, Form, read_config, write_config
from xmflow_jax.families.idefics3.modeling import Idefics3, Idefics3Config
from xmflow_jax.families.idefics3.params import key_table
from xmflow_jax.families.idefics3.processing import image_layout, processing, template
from xmflow_jax.families.tower_decoder import anatomy, partitioning, place
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig


def make_family(form: Form) -> Family:
    """Idefics3, or SmolVLM, which differs from it in the names in its files."""
    return Family(
        model_type=form.model_type,
        read_config=partial(read_config, form),
        write_config=partial(write_config, form),
        build=Idefics3,
        keys=key_table,
        partitioning=partial(partitioning, between={"connector": "the connector"}),
        anatomy=partial(anatomy, views=roles.SPLIT_VIEWS),
        processing=processing,
        image_layout=image_layout,
        place=place,
        template=template,
        tiny=Idefics3Config(
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
            LlamaConfig(vocabulary=40, width=24, mlp_width=32, layers=3, heads=4, kv_heads=2, head_width=6),
            join=2,
            image_token=39,
        ),
    )


FAMILY: Final = make_family(IDEFICS3)
