"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL (transformers `Qwen2VLForConditionalGeneration`,
`Qwen2_5_VLForConditionalGeneration`, `Qwen3VLForConditionalGeneration`; arXiv 2409.12191, 2502.13923, 2511.21631),
still images: a tower over patches of a picture of any size, and a Qwen2 or Qwen3 with positions on three axes.
Qwen3-VL's tower has features of several layers, which as many blocks of the decoder take (DeepStack)."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.data.images import COLOURS
from xmflow_jax.data.merged_patches import COLUMNS, IMAGES, ROWS, TABLE_READS, TABLE_SHARES, WINDOWS
from xmflow_jax.nn.deepstack import deep_features
from xmflow_jax.nn.image_in_prompt import ImageInPrompt
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.llama import LlamaConfig, LlamaDecoder
from xmflow_jax.nn.qwen_vision import QwenVision, QwenVisionConfig


@dataclass(frozen=True)
class QwenVLConfig:
    """A Qwen2-VL, Qwen2.5-VL or Qwen3-VL of any size.

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

    def visual(self, pixels: dict[str, Array]) -> Float[Array, "batch visual features"]:
        """The features of every merge block, a prompt's images one after the other: of each, what the decoder's first
        block takes, and behind it what later ones add.

        Args:
            pixels: `COLOURS` [batch, patch, numbers], and what `data.merged_patches.number_patches` tells of each
                patch [batch, patch], with a table of positions also `resample_table`; 0 throughout where a batch pads.
        """
        told = (COLOURS, ROWS, COLUMNS, IMAGES, WINDOWS)
        table = () if self.config.vision.table is None else (TABLE_READS, TABLE_SHARES)
        return self.visual_tower(*(pixels[name] for name in (*told, *table)))

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual features"],
        before: Float[Array, "batch source model"] | None = None,
    ) -> Float[Array, "batch position model"]:
        """Word embeddings, with the last layer's features at image positions."""
        return super().enter(stack, tokens, ids, features[..., : self.config.text.width], before)

    def added(
        self, stack: int, tokens: Int[Array, "batch position"], features: Float[Array, "batch visual features"]
    ) -> Float[Array, "batch position added"] | None:
        """The deep layers' features at image positions; None where there are none."""
        if not self.config.text.added:
            return None
        return deep_features(tokens, self.image_token, features[..., self.config.text.width :])
