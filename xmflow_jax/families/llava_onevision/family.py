"""LLaVA-OneVision as a family."""

from typing import Final

from xmflow_jax.data import roles
from xmflow_jax.families.family import Family
from xmflow_jax.families.llava_next.params import NEWLINE
from xmflow_jax.families.llava_onevision.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevision, LlavaOnevisionConfig
from xmflow_jax.families.llava_onevision.params import key_table
from xmflow_jax.families.llava_onevision.processing import image_layout, place, processing, template
from xmflow_jax.machine.partitioning import Partitioning, Tower
from xmflow_jax.nn.anatomy import NOTHING, Anatomy, Site, StackShape
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig


def partitioning(config: LlavaOnevisionConfig) -> Partitioning:
    """Every tower by its own heads; projector and newline have columns alone."""
    vision, text = config.vision, config.text
    return Partitioning(
        {
            "vision_tower": Tower("the vision tower", vision.heads, vision.heads),
            "multi_modal_projector": Tower("the projector"),
            NEWLINE: Tower("the newline"),
            "language_model": Tower("the decoder", text.heads, text.kv_heads),
        }
    )


def anatomy(config: LlavaOnevisionConfig) -> Anatomy:
    """One stack of the decoder's blocks, with the positions that it was trained on."""
    text = config.text
    block = (Site("decoder", "self"), Site("decoder", "mlp", NOTHING))
    stack = StackShape("decoder", (block,) * text.layers, text.heads)
    return Anatomy((stack,), text.vocabulary, text.positions, roles.VIEW_ROLES)


FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=LlavaOnevision,
    keys=key_table,
    partitioning=partitioning,
    anatomy=anatomy,
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
