"""PaliGemma (transformers `PaliGemmaForConditionalGeneration`; Beyer et al., arXiv 2407.07726; PaliGemma 2: Steiner et
al., arXiv 2412.03555): a SigLIP tower, a linear projector, and a decoder of Gemma's or Gemma 2's form."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.gemma import GemmaConfig, GemmaDecoder
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.pictures import one_by_one, side_by_side


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


class PaliGemma(ImageInPrompt):
    """Image positions of the prompt take the projected patches, which are not scaled as words are."""

    def __init__(self, config: PaliGemmaConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = Projector(config, dtype=dtype, rngs=rngs)
        self.language_model = GemmaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: Float[Array, "batch images height width 3"]) -> Float[Array, "batch visual model"]:
        """Projected patches of each prompt's images, behind the tower's last norm, one image after the other."""
        features = self.multi_modal_projector(self.vision_tower.output(one_by_one(pixels)))
        return side_by_side(features, len(pixels))
