"""PaliGemma (transformers `PaliGemmaForConditionalGeneration`; Beyer et al., arXiv 2407.07726; PaliGemma 2: Steiner et
al., arXiv 2412.03555): a SigLIP tower, a linear projector, and a decoder of Gemma's or Gemma 2's form."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.gemma import GemmaConfig, GemmaDecoder, with_images
from xmflow_jax.nn.layers import DType


@dataclass(frozen=True)
class PaliGemmaConfig:
    """A PaliGemma of any size.

    Attributes:
        image_token: the id that marks an image position in a prompt.
    """

    vision: ClipVisionConfig
    text: GemmaConfig
    image_token: int


class Projector(nnx.Module):
    """Vision width -> text width."""

    def __init__(self, config: PaliGemmaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(config.vision.width, config.text.width, param_dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch vision"]) -> Float[Array, "*batch text"]:
        return self.linear(x)


class PaliGemma(nnx.Module):
    """Image positions of the prompt take the projected patches, which are not scaled as words are."""

    def __init__(self, config: PaliGemmaConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = Projector(config, dtype=dtype, rngs=rngs)
        self.language_model = GemmaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.config = config

    def image_features(self, pixels: Float[Array, "images height width 3"]) -> Float[Array, "images positions model"]:
        """Projected patches of each image, behind the tower's last norm."""
        return self.multi_modal_projector(self.vision_tower.output(pixels))

    @property
    def stacks(self) -> tuple[GemmaDecoder, ...]:
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
        is_image = tokens == self.config.image_token
        words = self.language_model.embed(jnp.where(is_image, 0, tokens), ids)
        return with_images(words, is_image, features)

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The norm before the head."""
        return self.language_model.norm(x)

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        return self.language_model.unembed(x)
