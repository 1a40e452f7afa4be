"""GPT-2 with cross-attention in every block (transformers `GPT2LMHeadModel`, `add_cross_attention`): learned positions,
layer norms, biases everywhere.

A block is usable in the same parts as a Llama's, and its cross-attention in three more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.attention import LayerEdit, attend, causal_attend, causal_mask, drop, wide_einsum
from xmflow_jax.nn.layers import ACTIVATIONS, DType, LayerNorm, layer_slice, split_blocks, stack_blocks

Tree = Any
VisualKeysValues = tuple[
    Float[Array, "layer batch visual heads head_width"], Float[Array, "layer batch visual heads head_width"]
]

HEAD_WIDTH, MODEL_WIDTH = "head_width", "model_width"


@dataclass(frozen=True)
class Gpt2Config:
    """Sizes of a GPT-2 decoder with cross-attention.

    Attributes:
        positions: the longest prompt that has position embeddings.
        cross_scale: cross-attention's logits are divided by the square root of the head's width (as published) or of
            the model's (as this project's own family).
    """

    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    positions: int
    norm_eps: float = 1e-5
    activation: str = "gelu_new"
    tied: bool = True
    cross_scale: str = HEAD_WIDTH

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def kv_heads(self) -> int:
        return self.heads


class Gpt2Attention(nnx.Module):
    """Four projections with biases; published files fuse queries, keys and values."""

    def __init__(self, width: int, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear() -> nnx.Linear:
            return nnx.Linear(width, width, param_dtype=dtype, rngs=rngs)

        self.q_proj, self.k_proj, self.v_proj, self.c_proj = linear(), linear(), linear(), linear()


class Gpt2MLP(nnx.Module):
    """Two linear layers around the configured activation."""

    def __init__(self, config: Gpt2Config, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.c_fc = nnx.Linear(config.width, config.mlp_width, param_dtype=dtype, rngs=rngs)
        self.c_proj = nnx.Linear(config.mlp_width, config.width, param_dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.c_proj(ACTIVATIONS[self.activation](self.c_fc(x)))


class Gpt2Block(nnx.Module):
    """Self-attention, cross-attention, MLP, each on the normed input and added to it."""

    def __init__(self, config: Gpt2Config, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def norm() -> LayerNorm:
            return LayerNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)

        self.ln_1, self.ln_cross_attn, self.ln_2 = norm(), norm(), norm()
        self.attn = Gpt2Attention(config.width, dtype=dtype, rngs=rngs)
        self.crossattention = Gpt2Attention(config.width, dtype=dtype, rngs=rngs)
        self.mlp = Gpt2MLP(config, dtype=dtype, rngs=rngs)
        self.config = config

    def _by_head(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        return x.reshape(*x.shape[:-1], self.config.heads, self.config.head_width)

    def queries(
        self, x: Float[Array, "*batch position width"], rotation: None = None
    ) -> Float[Array, "*batch position heads head_width"]:
        """Queries of the normed input; positions are in the embeddings, so nothing is rotated."""
        return self._by_head(self.attn.q_proj(self.ln_1(x)))

    def keys_values(
        self, x: Float[Array, "*batch position width"], rotation: None = None
    ) -> tuple[Float[Array, "*batch position heads head_width"], Float[Array, "*batch position heads head_width"]]:
        """Keys and values of the normed input."""
        normed = self.ln_1(x)
        return self._by_head(self.attn.k_proj(normed)), self._by_head(self.attn.v_proj(normed))

    def attention_output(
        self, attended: Float[Array, "*batch position heads head_width"]
    ) -> Float[Array, "*batch position width"]:
        """The heads' weighted sums through the output projection."""
        return self.attn.c_proj(attended.reshape(*attended.shape[:-2], -1))

    def cross_queries(
        self, x: Float[Array, "*batch position width"]
    ) -> Float[Array, "*batch position heads head_width"]:
        """Cross-attention's queries of the normed input."""
        return self._by_head(self.crossattention.q_proj(self.ln_cross_attn(x)))

    def cross_keys_values(
        self, source: Float[Array, "*batch visual width"]
    ) -> tuple[Float[Array, "*batch visual heads head_width"], Float[Array, "*batch visual heads head_width"]]:
        """Cross-attention's keys and values of the encoder's states, which get no norm."""
        return self._by_head(self.crossattention.k_proj(source)), self._by_head(self.crossattention.v_proj(source))

    def cross_output(
        self, attended: Float[Array, "*batch position heads head_width"]
    ) -> Float[Array, "*batch position width"]:
        """Cross-attention's weighted sums through its output projection."""
        return self.crossattention.c_proj(attended.reshape(*attended.shape[:-2], -1))

    def mlp_output(self, x: Float[Array, "*batch position width"]) -> Float[Array, "*batch position width"]:
        """The MLP of the normed input."""
        return self.mlp(self.ln_2(x))

    @property
    def scale(self) -> float:
        """1 / sqrt(head width)."""
        return self.config.head_width**-0.5

    @property
    def cross_scale(self) -> float:
        """1 / sqrt(head width), or 1 / sqrt(model width) where the configuration says so."""
        return {HEAD_WIDTH: self.config.head_width, MODEL_WIDTH: self.config.width}[self.config.cross_scale] ** -0.5


class Gpt2Decoder(nnx.Module):
    """Embeddings, stacked blocks, final norm and head (the embedding itself where tied)."""

    def __init__(self, config: Gpt2Config, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.embed_tokens = nnx.Embed(config.vocabulary, config.width, param_dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(0.02)
        self.embed_positions = nnx.Param(normal(rngs.params(), (config.positions, config.width), dtype))
        self.layers = stack_blocks(lambda r: Gpt2Block(config, dtype=dtype, rngs=r), config.layers, rngs)
        self.norm = LayerNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        if not config.tied:
            self.lm_head = nnx.Linear(config.width, config.vocabulary, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.config = config

    def rotation(self, positions: Int[Array, "*batch position"]) -> None:
        """Nothing is rotated: see `embed`."""
        return None

    def embed(
        self, tokens: Int[Array, "*batch position"], positions: Int[Array, "*#batch position"] | None = None
    ) -> Float[Array, "*batch position width"]:
        """Word and position embeddings; without `positions` the tokens stand at 0, 1, ..."""
        places = jnp.arange(tokens.shape[-1]) if positions is None else positions
        return self.embed_tokens.embedding[...][tokens] + self.embed_positions[...][places]

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        head = self.embed_tokens.embedding[...].T if self.config.tied else self.lm_head.kernel[...]
        return wide_einsum("...d,dv->...v", x, head)

    def logits(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """Final norm and head, in float32 or wider."""
        return self.unembed(self.norm(x))

    def visual_keys_values(self, source: Float[Array, "batch visual width"]) -> VisualKeysValues:
        """Cross-attention's keys and values of every layer."""
        block_of, stacked = split_blocks(self.layers)
        step: Callable[[Any, Any], Any] = lambda _, layer: (None, block_of(layer).cross_keys_values(source))  # noqa: E731
        return jax.lax.scan(step, None, stacked)[1]

    def run(
        self,
        x: Float[Array, "batch position width"],
        edits: Tree = None,
        layer_edit: Callable[[Tree], LayerEdit] | None = None,
        collect: Callable[[Array, Array, Array], Tree] | None = None,
        blocks: int | None = None,
        visual: VisualKeysValues | None = None,
    ) -> tuple[Float[Array, "batch position width"], Tree]:
        """All blocks over embedded positions 0, 1, ...; arguments as of `LlamaDecoder.run`.

        Args:
            visual: what `visual_keys_values` gave; None leaves cross-attention out, as published code does.
        """
        block_of, stacked = split_blocks(self.layers)
        causal = causal_mask(x.shape[1])

        def step(x: Array, index: Array) -> tuple[Array, Tree]:
            block = block_of(layer_slice(stacked, index))
            query = block.queries(x)
            key, value = block.keys_values(x)
            collected = None if collect is None else collect(x, key, value)
            edit = LayerEdit() if layer_edit is None else layer_edit(layer_slice(edits, index))
            if layer_edit is None:
                attended = causal_attend(query, key, value, block.scale)
            else:
                allowed = causal[None, None] if edit.blocked is None else causal & ~edit.blocked
                attended = attend(query, key, value, block.scale, allowed, edit.zeroed)
            x = x + drop(block.attention_output(attended), edit.attention_dropped)
            if visual is not None:
                key, value = layer_slice(visual, index)
                permitted = None if edit.cross_blocked is None else ~edit.cross_blocked
                query = block.cross_queries(x)
                attended = attend(query, key, value, block.cross_scale, permitted, edit.cross_zeroed)
                x = x + drop(block.cross_output(attended), edit.cross_dropped)
            return x + drop(block.mlp_output(x), edit.mlp_dropped), collected

        return jax.lax.scan(step, x, jnp.arange(self.config.layers if blocks is None else blocks))
