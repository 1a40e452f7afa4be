"""LLaVA-1.5 as a family."""

from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.llava.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.families.llava.params import key_table
from xmflow_jax.families.llava.processing import image_layout, place, processing, template
from xmflow_jax.machine.partitioning import Partitioning, Tower
from xmflow_jax.nn.anatomy import NOTHING, Anatomy, Site, StackShape
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig


def partitioning(config: LlavaConfig) -> Partitioning:
    """Every tower by its own heads; the projector has columns alone."""
    vision, text = config.vision, config.text
    return Partitioning(
        {
            "vision_tower": Tower("the vision tower", vision.heads, vision.heads),
            "multi_modal_projector": Tower("the projector"),
            "language_model": Tower("the decoder", text.heads, text.kv_heads),
        }
    )


def anatomy(config: LlavaConfig) -> Anatomy:
    """One stack of Llama's blocks, with the positions that it was trained on."""
    text = config.text
    block = (Site("decoder", "self"), Site("decoder", "mlp", NOTHING))
    return Anatomy((StackShape("decoder", (block,) * text.layers, text.heads),), text.vocabulary, text.positions)


def random_tiny(vocabulary: int, layers: int) -> LlavaConfig:
    """A LLaVA of a few hundred kilobytes; the vocabulary's last word marks the image."""
    vision = ClipVisionConfig(image_size=56, patch_size=14, width=32, mlp_width=64, layers=3, heads=4)
    text = LlamaConfig(vocabulary, width=64, mlp_width=128, layers=layers, heads=4, kv_heads=4, head_width=16)
    return LlavaConfig(vision, text, image_token=vocabulary - 1)


FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=Llava,
    keys=key_table,
    partitioning=partitioning,
    anatomy=anatomy,
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=LlavaConfig(
        ClipVisionConfig(image_size=28, patch_size=14, width=16, mlp_width=24, layers=2, heads=2),
        LlamaConfig(vocabulary=40, width=24, mlp_width=32, layers=3, heads=4, kv_heads=2, head_width=6),
        image_token=39,
    ),
    presets={"random-tiny": random_tiny},
)
