"""Qwen2-VL and Qwen2.5-VL (transformers `Qwen2VLForConditionalGeneration`, `Qwen2_5_VLForConditionalGeneration`; arXiv
2409.12191, 2502.13923), still images: a tower over patches of a picture of any size, and a Qwen2 with positions on
three axes."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.data.images import COLOURS
from xmflow_jax.data.merged_patches import COLUMNS, IMAGES, ROWS, WINDOWS
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder
from xmflow_jax.nn.qwen_vision import QwenVision, QwenVisionConfig


@dataclass(frozen=True)
class QwenVLConfig:
    """A Qwen2-VL or Qwen2.5-VL of any size.

    Attributes:
        image_token: the id that marks an image position in a prompt.
        start_token, end_token: the marks before and behind an image.
    """

    vision: QwenVisionConfig
    text: LlamaConfig
    image_token: int
    start_token: int
    end_token: int


class QwenVL(ImageInPrompt):
    """Image positions of the prompt take the merged patches; everything after is the decoder's."""

    def __init__(self, config: QwenVLConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.visual_tower = QwenVision(config.vision, dtype=dtype, rngs=rngs)
        self.language_model = LlamaDecoder(config.text, dtype=dtype, rngs=rngs)
        self.image_token = config.image_token
        self.config = config

    def visual(self, pixels: dict[str, Array]) -> Float[Array, "batch visual model"]:
        """A feature of every merge block, a prompt's images one after the other.

        Args:
            pixels: `COLOURS` [batch, patch, numbers], and what `data.merged_patches.number_patches` tells of each
                patch [batch, patch]; 0 throughout where a batch pads.
        """
        return self.visual_tower(*(pixels[name] for name in (COLOURS, ROWS, COLUMNS, IMAGES, WINDOWS)))
