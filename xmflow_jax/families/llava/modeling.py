"""LLaVA-1.5 (transformers `LlavaForConditionalGeneration`; Liu et al., arXiv 2310.03744): a vision tower (CLIP or
SigLIP), a projector, and a decoder of Llama's form."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.layers import ACTIVATIONS, DType
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder


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

    def __init__(self, config: LlavaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, config.text.width, use_bias=config.projector_bias, param_dtype=dtype, rngs=rngs)

        self.linear_1, self.linear_2 = linear(config.vision.width), linear(config.text.width)
        self.activation = config.projector_activation

    def __call__(self, x: Float[Array, "*batch vision"]) -> Float[Array, "*batch text"]:
        return self.linear_2(ACTIVATIONS[self.activation](self.linear_1(x)))


class Llava(nnx.Module):
    """Image positions of the prompt take the projected patches; everything after is a Llama."""

    def __init__(self, config: LlavaConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = LlavaProjector(config, dtype=dtype, rngs=rngs)
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.config = config

    def image_features(self, pixels: Float[Array, "images height width 3"]) -> Float[Array, "images positions model"]:
        """Projected patches of each image."""
        hidden = self.vision_tower.hidden_state(pixels, self.config.feature_layer)
        if self.config.vision.class_token and not self.config.keep_class_token:
            hidden = hidden[:, 1:]
        return self.multi_modal_projector(hidden)

    @property
    def stacks(self) -> tuple[LlamaDecoder, ...]:
        """The decoder alone."""
        return (self.language_model,)

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual model"],
        before: Float[Array, "batch source model"] | None = None,
    ) -> Float[Array, "batch position model"]:
        """Word embeddings, with the visual features (all images of a prompt, in order) at its image positions."""
        is_image: Bool[Array, "batch position"] = tokens == self.config.image_token
        words = self.language_model.embed(jnp.where(is_image, 0, tokens), ids)
        # The n-th image position of a prompt reads its n-th feature.
        index = jnp.clip(jnp.cumsum(is_image, axis=1) - 1, 0, features.shape[1] - 1)
        visual = jnp.take_along_axis(features, index[..., None], axis=1)
        return jnp.where(is_image[..., None], visual.astype(words.dtype), words)

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The norm before the head."""
        return self.language_model.norm(x)

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        return self.language_model.unembed(x)
