"""A vision encoder whose states a decoder reads by cross-attention in every block (transformers
`VisionEncoderDecoderModel` of CLIP or ViT and GPT-2), and this project's own family of the same form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.attention import LayerEdit
from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.gpt2 import MODEL_WIDTH, Gpt2Config, Gpt2Decoder, VisualKeysValues
from xmflow_jax.nn.layers import DType

Tree = Any


@dataclass(frozen=True)
class CrossAttentionConfig:
    """An encoder-decoder of any size.

    Attributes:
        keep_class_token: the decoder reads the encoder's class token beside the patches, as published models do.
    """

    vision: ClipVisionConfig
    text: Gpt2Config
    keep_class_token: bool = True

    @property
    def image_positions(self) -> int:
        """Encoder positions that the decoder reads."""
        return self.vision.patches + self.keep_class_token

    @property
    def projects(self) -> bool:
        """Whether a linear layer brings the encoder's states to the decoder's width."""
        return self.vision.width != self.text.width


# The user's own family at its full size: 16-pixel patches, 12 + 12 layers, width 1024, 16 heads.
XMFLOW_12X1024 = CrossAttentionConfig(
    ClipVisionConfig(image_size=224, patch_size=16, width=1024, mlp_width=4096, layers=12, heads=16),
    Gpt2Config(
        vocabulary=50257,
        width=1024,
        mlp_width=4096,
        layers=12,
        heads=16,
        positions=1024,
        cross_scale=MODEL_WIDTH,
    ),
)


class CrossAttentionModel(nnx.Module):
    """The prompt holds text alone; every block of the decoder reads the image's states."""

    def __init__(self, config: CrossAttentionConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        if config.projects:
            self.enc_to_dec_proj = nnx.Linear(config.vision.width, config.text.width, param_dtype=dtype, rngs=rngs)
        self.language_model = Gpt2Decoder(config.text, dtype=dtype, rngs=rngs)
        self.config = config

    def image_features(self, pixels: Float[Array, "images height width 3"]) -> Float[Array, "images positions model"]:
        """The states of each image that cross-attention reads."""
        states = self.vision_tower.output(pixels)
        if not self.config.keep_class_token:
            states = states[:, 1:]
        return self.enc_to_dec_proj(states) if self.config.projects else states

    def visual_keys_values(self, features: Float[Array, "batch visual model"]) -> VisualKeysValues:
        """Cross-attention's keys and values of every layer."""
        return self.language_model.visual_keys_values(features)

    def embed(
        self, tokens: Int[Array, "batch position"], features: Float[Array, "batch visual model"]
    ) -> Float[Array, "batch position width"]:
        """Word and position embeddings; the image has no place among them."""
        return self.language_model.embed(tokens)

    def logits_at(
        self,
        tokens: Int[Array, "batch position"],
        features: Float[Array, "batch visual model"],
        answer_position: Int[Array, " batch"],
        edits: Tree = None,
        layer_edit: Callable[[Tree], LayerEdit] | None = None,
    ) -> Float[Array, "batch vocabulary"]:
        """The next token's logits at one position of each prompt: a full pass, with `Gpt2Decoder.run`'s edits."""
        visual = self.visual_keys_values(features)
        hidden, _ = self.language_model.run(self.embed(tokens, features), edits, layer_edit, visual=visual)
        answer = jnp.take_along_axis(hidden, answer_position[:, None, None], axis=1)[:, 0]
        return self.language_model.logits(answer)
