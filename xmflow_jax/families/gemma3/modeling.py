"""Gemma 3 (transformers `Gemma3ForConditionalGeneration`; arXiv 2503.19786): a SigLIP tower whose patches are pooled,
normed and projected, and a decoder of Gemma 3's form."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.gemma import GemmaConfig, GemmaDecoder, GemmaNorm
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.pictures import one_by_one, side_by_side


@dataclass(frozen=True)
class Gemma3Config:
    """A Gemma 3 of any size that reads images.

    Attributes:
        side: positions along one side of an image; each pools a square of patches.
        image_token: the id that marks an image position in a prompt.
        begin_token, end_token: marks before and behind an image.
    """

    vision: ClipVisionConfig
    text: GemmaConfig
    side: int
    image_token: int
    begin_token: int
    end_token: int


class Projection(nnx.Module):
    """A matrix alone."""

    def __init__(self, inputs: int, outputs: int, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(jax.nn.initializers.lecun_normal()(rngs.params(), (inputs, outputs), dtype))

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        return x @ self.kernel[...]


class Projector(nnx.Module):
    """Means of squares of patches, normed, and brought to the text's width."""

    def __init__(self, config: Gemma3Config, *, dtype: DType, rngs: nnx.Rngs) -> None:
        vision = config.vision
        self.mm_soft_emb_norm = GemmaNorm(vision.width, vision.norm_eps, dtype=dtype, rngs=rngs)
        self.mm_input_projection = Projection(vision.width, config.text.width, dtype=dtype, rngs=rngs)
        self.side, self.pooled = config.side, vision.grid // config.side

    def __call__(self, x: Float[Array, "images patches vision"]) -> Float[Array, "images positions text"]:
        squares = x.reshape(len(x), self.side, self.pooled, self.side, self.pooled, x.shape[-1])
        return self.mm_input_projection(self.mm_soft_emb_norm(squares.mean((2, 4)).reshape(len(x), -1, x.shape[-1])))


class Gemma3(ImageInPrompt):
    """Image positions of the prompt take the projector's features, which are not scaled as words are."""

    def __init__(self, config: Gemma3Config, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = Projector(config, dtype=dtype, rngs=rngs)
        self.language_model = GemmaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: Float[Array, "batch images height width 3"]) -> Float[Array, "batch visual model"]:
        """Features of each prompt's images, one image after the other."""
        features = self.multi_modal_projector(self.vision_tower.output(one_by_one(pixels)))
        return side_by_side(features, len(pixels))
