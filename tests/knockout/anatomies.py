"""Models as data: by their configurations, and of one stack with the image in the prompt or outside it."""

from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA, VISION_ENCODER_DECODER
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.machine.partitioning import Partitioning
from xmflow_jax.nn.anatomy import CROSS, MAIN, MLP, SELF, Anatomy, StackShape


def anatomy_of(config: LlavaConfig | CrossAttentionConfig) -> Anatomy:
    """Of a model of a published family."""
    return (LLAVA if isinstance(config, LlavaConfig) else VISION_ENCODER_DECODER).anatomy(config)


def partitioning_of(config: LlavaConfig | CrossAttentionConfig) -> Partitioning:
    """Which parameters of it may be spread."""
    return (LLAVA if isinstance(config, LlavaConfig) else VISION_ENCODER_DECODER).partitioning(config)


def prompt_anatomy(layers: int, heads: int = 4) -> Anatomy:
    """The image stands among the words."""
    return Anatomy((StackShape(MAIN, ((SELF, MLP),) * layers, heads),), 50)


def cross_anatomy(layers: int, heads: int = 4) -> Anatomy:
    """Every block reads the image from outside."""
    return Anatomy((StackShape(MAIN, ((SELF, CROSS, MLP),) * layers, heads),), 50)
