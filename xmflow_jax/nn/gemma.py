"""The Gemma decoders (transformers `GemmaForCausalLM`, `Gemma2ForCausalLM`, `Gemma3ForCausalLM`; arXiv 2403.08295,
2408.00118, 2503.19786).

All three scale their embeddings, and multiply what they norm by one more than the stored numbers. Gemma 2 norms what
each sublayer puts out as well, bounds logits, and lets some layers slide; Gemma 3 norms the heads of queries and keys,
and turns positions of sliding and of full layers by bases of their own.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Final

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.nn.anatomy import LIMIT, MLP, SELF, Site
from xmflow_jax.nn.attention import scaled, wide_einsum
from xmflow_jax.nn.interfaces import Attend, Drop, Rows, Span, StrictSpan
from xmflow_jax.nn.layers import DType, StackedBlocks, stack_blocks
from xmflow_jax.nn.llama import LlamaConfig, LlamaMLP
from xmflow_jax.nn.rotary import RotaryScaling, Rotation, rotary, rotate

# The window of a layer that has none, where one compiled scan runs layers with and without: longer than any prompt.
NO_WINDOW: Final = 2**30

# The angles of layers that see everything, and of those that slide.
Rotations = tuple[Rotation, Rotation]


@dataclass(frozen=True)
class GemmaConfig:
    """Sizes of a Gemma decoder. The defaults are Gemma 1's.

    Attributes:
        query_scalar: attention logits are divided by its square root.
        rope_theta, rope_scaling: of layers that see everything before them.
        sliding_theta: rotary base of sliding layers; None: the same as of the others, scaling included.
        tied: the head is the embedding.
        positions: of prompt and answer together, at most, as trained. It shapes no parameter.
        model_type: the decoder's own name in published files (`weights.gemma_text`); nothing here depends on it.
        sliding: of every layer, whether it slides; empty: none does.
        span: a position of a sliding layer sees so many sources, itself the last of them.
        strict: so it does within its own block as well (`interfaces.StrictSpan`).
        softcap: of attention logits; None: none.
        final_softcap: of the head's logits; None: none.
        outer_norms: what attention and MLP put out is normed, too.
        head_norms: every head of queries and keys is normed.
    """

    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    query_scalar: int
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RotaryScaling | None = None
    sliding_theta: float | None = None
    activation: str = "gelu_pytorch_tanh"
    tied: bool = True
    positions: int = field(default=8192, metadata=LIMIT)
    model_type: str = "gemma"
    sliding: tuple[bool, ...] = ()
    span: int | None = None
    strict: bool = False
    softcap: float | None = None
    final_softcap: float | None = None
    outer_norms: bool = False
    head_norms: bool = False

    @property
    def projections(self) -> LlamaConfig:
        """Sizes of the MLP's projections, which are Llama's."""
        sizes = (self.vocabulary, self.width, self.mlp_width, self.layers, self.heads, self.kv_heads, self.head_width)
        return LlamaConfig(*sizes, activation=self.activation)


class GemmaNorm(nnx.Module):
    """Root-mean-square norm: `(1 + offset) * x / sqrt(mean(x^2) + eps)`, all of it in float32 (or wider)."""

    def __init__(self, width: int, eps: float, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.offset = nnx.Param(jnp.zeros((width,), dtype))
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return (wide * (1.0 + self.offset[...].astype(wide.dtype))).astype(x.dtype)


class GemmaAttention(nnx.Module):
    """The four projections, and the norms of the heads where there are any."""

    def __init__(self, config: GemmaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, rngs=rngs)

        heads, kv_heads = config.heads * config.head_width, config.kv_heads * config.head_width
        self.q_proj, self.o_proj = linear(config.width, heads), linear(heads, config.width)
        self.k_proj, self.v_proj = linear(config.width, kv_heads), linear(config.width, kv_heads)
        if config.head_norms:
            self.q_norm = GemmaNorm(config.head_width, config.norm_eps, dtype=dtype, rngs=rngs)
            self.k_norm = GemmaNorm(config.head_width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.config = config

    def keys_values(self, x: Float[Array, "*batch position width"], rotation: Rotation) -> tuple[Array, Array]:
        """Rotated keys, and values [*batch, position, kv_heads, head_width]."""
        key, value = (self._by_head(proj(x)) for proj in (self.k_proj, self.v_proj))
        return rotate(self.k_norm(key) if self.config.head_norms else key, rotation), value

    def queries(
        self, x: Float[Array, "*batch position width"], rotation: Rotation
    ) -> Float[Array, "*batch position heads head_width"]:
        """Rotated queries."""
        query = self._by_head(self.q_proj(x))
        return rotate(self.q_norm(query) if self.config.head_norms else query, rotation)

    def _by_head(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        return x.reshape(*x.shape[:-1], -1, self.config.head_width)


class GemmaBlock(nnx.Module):
    """One decoder layer; `GemmaLayer` knows which."""

    def __init__(self, config: GemmaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def norm() -> GemmaNorm:
            return GemmaNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)

        self.input_layernorm, self.post_attention_layernorm = norm(), norm()
        if config.outer_norms:
            self.pre_feedforward_layernorm, self.post_feedforward_layernorm = norm(), norm()
        self.self_attn = GemmaAttention(config, dtype=dtype, rngs=rngs)
        self.mlp = LlamaMLP(config.projections, dtype=dtype, rngs=rngs)
        self.config = config

    def __call__(
        self,
        x: Float[Array, "*batch position width"],
        rotation: Rotation,
        attend: Attend,
        drop: Drop,
        rows: Rows,
        span: Span | None,
    ) -> Float[Array, "*batch row width"]:
        """As `interfaces.Block`, with the layer's own angles and window.

        `post_attention_layernorm` is the MLP's own norm in Gemma 1, and the norm of what attention puts out in others.
        """
        config = self.config
        normed = self.input_layernorm(x)
        own = self.self_attn.keys_values(normed, rotation)
        query = self.self_attn.queries(rows(normed), (rows(rotation[0]), rows(rotation[1])))
        attended = attend(SELF, query, own, config.query_scalar**-0.5, span, config.softcap)
        put_out = self.self_attn.o_proj(attended.reshape(*attended.shape[:-2], -1))
        if not config.outer_norms:
            x = rows(x) + drop(SELF, put_out)
            return x + drop(MLP, self.mlp(self.post_attention_layernorm(x)))
        x = rows(x) + drop(SELF, self.post_attention_layernorm(put_out))
        return x + drop(MLP, self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x))))


@dataclass(frozen=True)
class GemmaLayer:
    """A block that knows whether its layer slides (`interfaces.Block`); None: no layer does."""

    block: GemmaBlock
    slides: Bool[Array, ""] | None

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: Rotations, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        (full, sliding), slides, span = rotation, self.slides, self.block.config.span
        if slides is None or span is None:
            return self.block(x, full, attend, drop, rows, None)
        angles = (jnp.where(slides, one, other) for one, other in zip(sliding, full, strict=True))
        length = jnp.where(slides, span, NO_WINDOW)
        own = StrictSpan(length) if self.block.config.strict else length
        return self.block(x, (next(angles), next(angles)), attend, drop, rows, own)


@dataclass(frozen=True)
class GemmaBlocks:
    """All layers as one group, so that one compiled scan runs those that slide and those that do not."""

    stacked: StackedBlocks
    config: GemmaConfig

    @property
    def layers(self) -> int:
        return self.stacked.layers

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.stacked.sites

    def block(self, index: Int[Array, ""] | int) -> GemmaLayer:
        """The block of a layer, whose number may be traced; so is then whether it slides."""
        slides = jnp.asarray(self.config.sliding)[index] if any(self.config.sliding) else None
        return GemmaLayer(self.stacked.block(index), slides)


class GemmaDecoder(nnx.Module):
    """Embedding, stacked blocks, final norm and head, which is the embedding itself where tied (`interfaces.Stack`)."""

    def __init__(self, config: GemmaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.embed_tokens = nnx.Embed(config.vocabulary, config.width, param_dtype=dtype, rngs=rngs)
        self.layers = stack_blocks(lambda r: GemmaBlock(config, dtype=dtype, rngs=r), config.layers, rngs)
        self.norm = GemmaNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        if not config.tied:
            self.lm_head = nnx.Linear(config.width, config.vocabulary, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.config = config

    @property
    def groups(self) -> tuple[GemmaBlocks, ...]:
        return (GemmaBlocks(StackedBlocks(self.layers, self.config.layers, (SELF, MLP)), self.config),)

    def rotation(self, ids: Int[Array, "*batch axis position"]) -> Rotations:
        """The rotary angles of positions with these ids, which have one axis."""
        config, own = self.config, ids[..., 0, :]
        full = rotary(own, config.head_width, config.rope_theta, config.rope_scaling)
        if config.sliding_theta is None:
            return full, full
        return full, rotary(own, config.head_width, config.sliding_theta)

    def embed(
        self, tokens: Int[Array, "*batch position"], ids: Int[Array, "*#batch axis position"]
    ) -> Float[Array, "*batch position width"]:
        """Word embeddings times the root of their width, which is rounded to their own type first."""
        words: Any = self.embed_tokens.embedding[...][tokens]
        return words * jnp.asarray(math.sqrt(self.config.width)).astype(words.dtype)

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, its bound included, in float32 or wider."""
        head = self.embed_tokens.embedding[...].T if self.config.tied else self.lm_head.kernel[...]
        return scaled(wide_einsum("...d,dv->...v", x, head), 1.0, self.config.final_softcap)
