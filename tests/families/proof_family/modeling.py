"""A decoder with much that neither LLaVA nor GPT-2 has: norms before and after each sublayer, a sliding window in every
second layer, a softcap on attention logits, rotary positions on three axes, images whose positions see each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.anatomy import MLP, SELF, Site
from xmflow_jax.nn.attention import wide_einsum
from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.interfaces import Attend, Drop, Rows
from xmflow_jax.nn.layers import DType, RMSNorm, StackedBlocks, stack_blocks
from xmflow_jax.nn.llama import LlamaAttention, LlamaConfig, LlamaMLP
from xmflow_jax.nn.pictures import features_in_order, one_by_one, side_by_side
from xmflow_jax.nn.rotary import Rotation, rotate

# The window of a layer that has none: longer than any prompt.
NO_WINDOW: Final = 2**30


@dataclass(frozen=True)
class ProofConfig:
    """A model of any size.

    Attributes:
        text: sizes of the decoder.
        image_token: marks an image position in a prompt.
        begin_token, end_token: marks before and behind each image.
        span: of the sliding window in the layers 1, 3, 5, ...
        softcap: of the attention logits.
        sections: how many rotary frequencies turn with the time, the row and the column of a position.
    """

    vision: ClipVisionConfig
    text: LlamaConfig
    image_token: int
    begin_token: int
    end_token: int
    span: int
    softcap: float
    sections: tuple[int, int, int]


def three_axis_rotary(
    ids: Int[Array, "*batch 3 position"], sections: Sequence[int], head_width: int, theta: float
) -> Rotation:
    """Cosines and sines [*batch, position, half], each frequency turned by the axis whose section it is in."""
    # Of JAX's default type, so that a test may compute in float64 throughout.
    frequencies = 1.0 / theta ** (jnp.arange(0, head_width, 2, dtype=float) / head_width)
    axis = jnp.repeat(jnp.arange(3), jnp.array(sections), total_repeat_length=head_width // 2)
    angles = jnp.moveaxis(ids[..., axis, :], -2, -1).astype(frequencies.dtype) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


class ProofBlock(nnx.Module):
    """`x + post(attention(pre(x)))`, and the same of the MLP."""

    def __init__(self, config: ProofConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def norm() -> RMSNorm:
            return RMSNorm(config.text.width, config.text.norm_eps, dtype=dtype, rngs=rngs)

        self.input_layernorm, self.post_attention_layernorm = norm(), norm()
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = norm(), norm()
        self.self_attn = LlamaAttention(config.text, dtype=dtype, rngs=rngs)
        self.mlp = LlamaMLP(config.text, dtype=dtype, rngs=rngs)
        self.config = config

    def _by_head(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        return x.reshape(*x.shape[:-1], -1, self.config.text.head_width)

    def __call__(
        self, x: Array, rotation: Rotation, attend: Attend, drop: Drop, rows: Rows, span: Int[Array, ""] | int
    ) -> Array:
        """As `interfaces.Block`, with the layer's own window."""
        normed = self.input_layernorm(x)
        key = rotate(self._by_head(self.self_attn.k_proj(normed)), rotation)
        value = self._by_head(self.self_attn.v_proj(normed))
        query = self._by_head(self.self_attn.q_proj(rows(normed)))
        query = rotate(query, (rows(rotation[0]), rows(rotation[1])))
        scale = self.config.text.head_width**-0.5
        attended = attend(SELF, query, (key, value), scale, span=span, softcap=self.config.softcap)
        put_out = self.self_attn.o_proj(attended.reshape(*attended.shape[:-2], -1))
        x = rows(x) + drop(SELF, self.post_attention_layernorm(put_out))
        return x + drop(MLP, self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x))))


@dataclass(frozen=True)
class ProofLayer:
    """A block that knows its layer's window (`interfaces.Block`)."""

    block: ProofBlock
    span: Any

    def __call__(self, x: Array, rotation: Rotation, attend: Attend, drop: Drop, rows: Rows) -> Array:
        return self.block(x, rotation, attend, drop, rows, self.span)


@dataclass(frozen=True)
class ProofBlocks:
    """All layers as one group, so that one compiled scan runs those with and those without a window."""

    stacked: StackedBlocks
    span: int

    @property
    def layers(self) -> int:
        return self.stacked.layers

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.stacked.sites

    def block(self, index: Int[Array, ""] | int) -> ProofLayer:
        """The block of a layer, whose number may be traced; so is then its window."""
        return ProofLayer(self.stacked.block(index), jnp.where(jnp.asarray(index) % 2 == 1, self.span, NO_WINDOW))


class ProofDecoder(nnx.Module):
    """Embedding, stacked blocks, final norm, head (`interfaces.Stack`)."""

    def __init__(self, config: ProofConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        text = config.text
        self.embed_tokens = nnx.Embed(text.vocabulary, text.width, param_dtype=dtype, rngs=rngs)
        self.layers = stack_blocks(lambda r: ProofBlock(config, dtype=dtype, rngs=r), text.layers, rngs)
        self.norm = RMSNorm(text.width, text.norm_eps, dtype=dtype, rngs=rngs)
        self.lm_head = nnx.Linear(text.width, text.vocabulary, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.config = config

    @property
    def groups(self) -> tuple[ProofBlocks, ...]:
        return (ProofBlocks(StackedBlocks(self.layers, self.config.text.layers, (SELF, MLP)), self.config.span),)

    def rotation(self, ids: Int[Array, "*batch 3 position"]) -> Rotation:
        """The rotary angles of positions with these ids, shared by all layers."""
        return three_axis_rotary(ids, self.config.sections, self.config.text.head_width, self.config.text.rope_theta)

    def embed(
        self, tokens: Int[Array, "*batch position"], ids: Int[Array, "*#batch axis position"]
    ) -> Float[Array, "*batch position width"]:
        """Word embeddings; where a token stands is told to attention alone."""
        return self.embed_tokens.embedding[...][tokens]


class ProofModel(nnx.Module):
    """Image positions take the projected patches of a CLIP tower; everything after is the decoder's."""

    def __init__(self, config: ProofConfig, *, dtype: DType = jnp.float32, rngs: nnx.Rngs) -> None:
        self.vision_tower = ClipVision(config.vision, dtype=dtype, rngs=rngs)
        self.projector = nnx.Linear(config.vision.width, config.text.width, param_dtype=dtype, rngs=rngs)
        self.language_model = ProofDecoder(config, dtype=dtype, rngs=rngs)
        self.config = config

    @property
    def stacks(self) -> tuple[ProofDecoder, ...]:
        return (self.language_model,)

    def visual(self, pixels: Float[Array, "batch images height width 3"]) -> Float[Array, "batch visual model"]:
        """Projected patches of each prompt's images, without the class tokens."""
        return side_by_side(self.projector(self.vision_tower.output(one_by_one(pixels))[:, 1:]), len(pixels))

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual model"],
        before: None = None,
    ) -> Float[Array, "batch position model"]:
        """Word embeddings; the n-th image position of a prompt reads its n-th feature."""
        return features_in_order(self.language_model.embed(tokens, ids), tokens == self.config.image_token, features)

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
        return wide_einsum("...d,dv->...v", x, self.language_model.lm_head.kernel[...])
