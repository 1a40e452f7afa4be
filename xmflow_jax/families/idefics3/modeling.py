"""Idefics3 and SmolVLM (transformers `Idefics3ForConditionalGeneration`, `SmolVLMForConditionalGeneration`; Laurençon
et al., arXiv 2408.12637; Marafioti et al., arXiv 2504.05299), still images: every tile goes through SigLIP by itself,
squares of its patches are joined and projected by one matrix, a Llama does the rest."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder
from xmflow_jax.nn.pictures import one_by_one, side_by_side
from xmflow_jax.nn.pixel_shuffle import join_squares


@dataclass(frozen=True)
class Idefics3Config:
    """An Idefics3 or SmolVLM of any size.

    Attributes:
        join: so many by so many patches of a tile make one position.
        image_token: the id that marks an image position in a prompt.
    """

    vision: ClipVisionConfig
    text: LlamaConfig
    join: int
    image_token: int

    @property
    def side(self) -> int:
        """Positions along one side of a tile."""
        return self.vision.grid // self.join


class Idefics3(ImageInPrompt):
    """Image positions of the prompt take the projected squares of all tiles; everything after is the decoder's."""

    def __init__(self, config: Idefics3Config, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        joined = config.vision.width * config.join**2
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.connector = nnx.Linear(joined, config.text.width, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: Float[Array, "batch tile height width 3"]) -> Float[Array, "batch visual model"]:
        """Features of each prompt's tiles, behind the tower's last norm, one tile after the other."""
        squares = join_squares(self.vision_tower.output(one_by_one(pixels)), self.config.join)
        return side_by_side(self.connector(squares), len(pixels))
