"""Vision encoder-decoders as a family."""

from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.vision_encoder_decoder.config import MODEL_TYPE, read_config, write_config
from xmflow_jax.families.vision_encoder_decoder.modeling import (
    XMFLOW_12X1024,
    CrossAttentionConfig,
    CrossAttentionModel,
)
from xmflow_jax.families.vision_encoder_decoder.params import key_table
from xmflow_jax.families.vision_encoder_decoder.processing import image_layout, place, processing, template
from xmflow_jax.machine.partitioning import Partitioning, Tower
from xmflow_jax.nn.anatomy import NOTHING, VISUAL, Anatomy, Site, StackShape
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gpt2 import Gpt2Config


def partitioning(config: CrossAttentionConfig) -> Partitioning:
    """Encoder and decoder by their own heads; the layer between them stays whole."""
    vision, text = config.vision, config.text
    return Partitioning(
        {
            "vision_tower": Tower("the vision tower", vision.heads, vision.heads),
            "enc_to_dec_proj": Tower("the projection between encoder and decoder"),
            "language_model": Tower("the decoder", text.heads, text.heads),
        }
    )


def anatomy(config: CrossAttentionConfig) -> Anatomy:
    """One stack of GPT-2's blocks, each of which reads the image; learned positions end somewhere."""
    text = config.text
    block = (Site("decoder", "self"), Site("decoder", "cross", VISUAL), Site("decoder", "mlp", NOTHING))
    return Anatomy((StackShape("decoder", (block,) * text.layers, text.heads),), text.vocabulary, text.positions)


FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=CrossAttentionModel,
    keys=key_table,
    partitioning=partitioning,
    anatomy=anatomy,
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=CrossAttentionConfig(
        ClipVisionConfig(image_size=28, patch_size=14, width=16, mlp_width=24, layers=2, heads=2),
        Gpt2Config(vocabulary=40, width=24, mlp_width=32, layers=3, heads=4, positions=50),
    ),
    # This project's own model has words and layers of its own.
    presets={"xmflow-12x1024": lambda vocabulary, layers: XMFLOW_12X1024},
)
