"""A vision encoder whose states a decoder reads by cross-attention in every block (transformers
`VisionEncoderDecoderModel` of CLIP or ViT and GPT-2), and this project's own family of the same form."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.gpt2 import MODEL_WIDTH, Gpt2Config, Gpt2Decoder
from xmflow_jax.nn.layers import DType
from xmflow_jax.nn.pictures import one_by_one, side_by_side


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

    def visual(self, pixels: Float[Array, "batch images height width 3"]) -> Float[Array, "batch visual model"]:
        """The states of each prompt's images that cross-attention reads, one image after the other."""
        states = self.vision_tower.output(one_by_one(pixels))
        if not self.config.keep_class_token:
            states = states[:, 1:]
        return side_by_side(self.enc_to_dec_proj(states) if self.config.projects else states, len(pixels))

    @property
    def stacks(self) -> tuple[Gpt2Decoder, ...]:
        """The decoder alone."""
        return (self.language_model,)

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual model"],
        before: Float[Array, "batch source model"] | None = None,
    ) -> Float[Array, "batch position width"]:
        """Word and position embeddings; the image has no place among them."""
        return self.language_model.embed(tokens, ids)

    def added(
        self, stack: int, tokens: Int[Array, "batch position"], features: Float[Array, "batch visual model"]
    ) -> None:
        """Nothing."""
        return None

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The norm before the head."""
        return self.language_model.norm(x)

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        return self.language_model.unembed(x)
