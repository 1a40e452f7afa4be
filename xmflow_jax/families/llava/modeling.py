"""LLaVA-1.5 (transformers `LlavaForConditionalGeneration`; Liu et al., arXiv 2310.03744): a vision tower (CLIP or
SigLIP), a projector, and a decoder of Llama's form."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import ACTIVATIONS, DType
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder
from xmflow_jax.nn.pictures import one_by_one, side_by_side


@dataclass(frozen=True)
class LlavaConfig:
    """A LLaVA-1.5 of any size.

    Attributes:
        feature_layer: which of the tower's layers + 1 hidden states the projector reads (-2: before the last block).
        keep_class_token: the select strategy "full"; "default" drops the class token. False of a tower without one.
        image_token: the id that marks an image position in a prompt.
        projector_activation, projector_bias: of the two-layer projector.
    """

    vision: ClipVisionConfig
    text: LlamaConfig
    image_token: int
    feature_layer: int = -2
    keep_class_token: bool = False
    projector_activation: str = "gelu"
    projector_bias: bool = True

    @property
    def image_positions(self) -> int:
        """Prompt positions that one image takes."""
        return self.vision.patches + self.keep_class_token


class LlavaProjector(nnx.Module):
    """Vision width -> text width, through two linear layers."""

    def __init__(self, widths: tuple[int, int], activation: str, bias: bool, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, widths[1], use_bias=bias, param_dtype=dtype, rngs=rngs)

        self.linear_1, self.linear_2 = linear(widths[0]), linear(widths[1])
        self.activation = activation

    def __call__(self, x: Float[Array, "*batch vision"]) -> Float[Array, "*batch text"]:
        return self.linear_2(ACTIVATIONS[self.activation](self.linear_1(x)))


class Llava(ImageInPrompt):
    """Image positions of the prompt take the projected patches; everything after is a Llama."""

    def __init__(self, config: LlavaConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        widths = config.vision.width, config.text.width
        self.multi_modal_projector = LlavaProjector(
            widths, config.projector_activation, config.projector_bias, dtype=dtype, rngs=rngs
        )
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: Float[Array, "batch images height width 3"]) -> Float[Array, "batch visual model"]:
        """Projected patches of each prompt's images, one image after the other."""
        hidden = self.vision_tower.hidden_state(one_by_one(pixels), self.config.feature_layer)
        if self.config.vision.class_token and not self.config.keep_class_token:
            hidden = hidden[:, 1:]
        return side_by_side(self.multi_modal_projector(hidden), len(pixels))
