"""Models of one stack as data: with the image in the prompt, and read by cross-attention."""

from xmflow_jax.nn.interfaces import CROSS, MAIN, MLP, SELF, Anatomy, StackShape


def prompt_anatomy(layers: int, heads: int = 4) -> Anatomy:
    """The image stands among the words."""
    return Anatomy((StackShape(MAIN, ((SELF, MLP),) * layers, heads),), 50)


def cross_anatomy(layers: int, heads: int = 4) -> Anatomy:
    """Every block reads the image from outside."""
    return Anatomy((StackShape(MAIN, ((SELF, CROSS, MLP),) * layers, heads),), 50)
