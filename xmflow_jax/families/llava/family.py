"""LLaVA-1.5 as a family."""

from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.llava.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.families.llava.params import key_table
from xmflow_jax.families.llava.processing import image_layout, processing, template
from xmflow_jax.families.tower_decoder import anatomy, partitioning, place
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig


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
