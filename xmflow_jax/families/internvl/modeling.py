"""InternVL (transformers `InternVLForConditionalGeneration`; InternVL 3: Zhu et al., arXiv 2504.10479), still images:
every tile goes through InternViT by itself, and squares of its patches are joined and projected for the decoder."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import ACTIVATIONS, DType, LayerNorm
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder
from xmflow_jax.nn.pictures import one_by_one, side_by_side
from xmflow_jax.nn.pixel_shuffle import join_squares

# Of the projector's norm (`torch.nn.LayerNorm`'s own), which no file tells.
NORM_EPS = 1e-5


@dataclass(frozen=True)
class InternVLConfig:
    """An InternVL of any size.

    Attributes:
        join: so many by so many patches of a tile make one position.
        image_token: the id that marks an image position in a prompt.
        feature_layer: which of the tower's layers + 1 hidden states the projector reads (-1: behind the last block).
        projector_activation: between the projector's two layers.
    """

    vision: ClipVisionConfig
    text: LlamaConfig
    join: int
    image_token: int
    feature_layer: int = -1
    projector_activation: str = "gelu"

    @property
    def side(self) -> int:
        """Positions along one side of a tile."""
        return self.vision.grid // self.join


class Projector(nnx.Module):
    """Joined patches, normed, to the text's width through two layers."""

    def __init__(self, config: InternVLConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        joined, width = config.vision.width * config.join**2, config.text.width
        self.layer_norm = LayerNorm(joined, NORM_EPS, dtype=dtype, rngs=rngs)
        self.linear_1 = nnx.Linear(joined, width, param_dtype=dtype, rngs=rngs)
        self.linear_2 = nnx.Linear(width, width, param_dtype=dtype, rngs=rngs)
        self.activation = config.projector_activation

    def __call__(self, x: Float[Array, "*batch joined"]) -> Float[Array, "*batch text"]:
        return self.linear_2(ACTIVATIONS[self.activation](self.linear_1(self.layer_norm(x))))


class InternVL(ImageInPrompt):
    """Image positions of the prompt take the projected squares of all tiles; everything after is the decoder's."""

    def __init__(self, config: InternVLConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.multi_modal_projector = Projector(config, dtype=dtype, rngs=rngs)
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: Float[Array, "batch tile height width 3"]) -> Float[Array, "batch visual model"]:
        """Features of each prompt's tiles, one tile after the other; the class token is left out."""
        hidden = self.vision_tower.hidden_state(one_by_one(pixels), self.config.feature_layer)
        return side_by_side(self.multi_modal_projector(join_squares(hidden[:, 1:], self.config.join)), len(pixels))
