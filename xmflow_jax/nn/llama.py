"""The Llama decoder (transformers `LlamaForCausalLM`): rotary positions, RMSNorm, SwiGLU, grouped heads.

A block is usable in parts (`queries`, `keys_values`, `attention_output`, `mlp_output`), because a knockout recomputes
only some rows of some layers; the whole decoder is a scan over the stacked blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.attention import LayerEdit, attend, causal_attend, causal_mask, drop, wide_einsum
from xmflow_jax.nn.layers import ACTIVATIONS, DType, RMSNorm, layer_slice, split_blocks, stack_blocks

Tree = Any
Rotation = tuple[Float[Array, "*#batch position half"], Float[Array, "*#batch position half"]]


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama decoder."""

    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    activation: str = "silu"
    tied: bool = False


def rotary(positions: Int[Array, "*batch position"], head_width: int, theta: float) -> Rotation:
    """Cosines and sines of the rotary embedding (Su et al., arXiv 2104.09864) in rotate-half order."""
    frequencies = 1.0 / theta ** (jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "*batch position heads head_width"], rotation: Rotation
) -> Float[Array, "*batch position heads head_width"]:
    """Rotate each pair (x_i, x_{i + half}) of every head by its position's angle."""
    cos, sin = (part[..., None, :].astype(x.dtype) for part in rotation)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class LlamaAttention(nnx.Module):
    """The four projections; attention itself is the caller's, who knows what is blocked."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, rngs=rngs)

        self.q_proj = linear(config.width, config.heads * config.head_width)
        self.k_proj = linear(config.width, config.kv_heads * config.head_width)
        self.v_proj = linear(config.width, config.kv_heads * config.head_width)
        self.o_proj = linear(config.heads * config.head_width, config.width)


class LlamaMLP(nnx.Module):
    """`down(silu(gate(x)) * up(x))`."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, param_dtype=dtype, rngs=rngs)

        self.gate_proj = linear(config.width, config.mlp_width)
        self.up_proj = linear(config.width, config.mlp_width)
        self.down_proj = linear(config.mlp_width, config.width)
        self.activation = config.activation

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.down_proj(ACTIVATIONS[self.activation](self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nnx.Module):
    """One decoder layer, in the parts that a recomputation needs."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.input_layernorm = RMSNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.self_attn = LlamaAttention(config, dtype=dtype, rngs=rngs)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.mlp = LlamaMLP(config, dtype=dtype, rngs=rngs)
        self.config = config

    def queries(
        self, x: Float[Array, "*batch position width"], rotation: Rotation
    ) -> Float[Array, "*batch position heads head_width"]:
        """Rotated queries of the normed input."""
        query = self.self_attn.q_proj(self.input_layernorm(x))
        return rotate(query.reshape(*x.shape[:-1], -1, self.config.head_width), rotation)

    def keys_values(
        self, x: Float[Array, "*batch position width"], rotation: Rotation
    ) -> tuple[
        Float[Array, "*batch position kv_heads head_width"], Float[Array, "*batch position kv_heads head_width"]
    ]:
        """Rotated keys, and values, of the normed input."""
        normed = self.input_layernorm(x)
        key, value = (
            project(normed).reshape(*x.shape[:-1], -1, self.config.head_width)
            for project in (self.self_attn.k_proj, self.self_attn.v_proj)
        )
        return rotate(key, rotation), value

    def attention_output(
        self, attended: Float[Array, "*batch position heads head_width"]
    ) -> Float[Array, "*batch position width"]:
        """The heads' weighted sums through the output projection."""
        return self.self_attn.o_proj(attended.reshape(*attended.shape[:-2], -1))

    def mlp_output(self, x: Float[Array, "*batch position width"]) -> Float[Array, "*batch position width"]:
        """The MLP of the normed input."""
        return self.mlp(self.post_attention_layernorm(x))

    @property
    def scale(self) -> float:
        """1 / sqrt(head width)."""
        return self.config.head_width**-0.5


class LlamaDecoder(nnx.Module):
    """Embedding, stacked blocks, final norm and head (the embedding itself where tied)."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.embed_tokens = nnx.Embed(config.vocabulary, config.width, param_dtype=dtype, rngs=rngs)
        self.layers = stack_blocks(lambda r: LlamaBlock(config, dtype=dtype, rngs=r), config.layers, rngs)
        self.norm = RMSNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        if not config.tied:
            self.lm_head = nnx.Linear(config.width, config.vocabulary, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.config = config

    def rotation(self, positions: Int[Array, "*batch position"]) -> Rotation:
        """The rotary angles of these positions, shared by all layers."""
        return rotary(positions, self.config.head_width, self.config.rope_theta)

    def embed(
        self, tokens: Int[Array, "*batch position"], positions: Int[Array, "*#batch position"] | None = None
    ) -> Float[Array, "*batch position width"]:
        """Word embeddings, in the parameters' own type; where a token stands is told to attention alone."""
        return self.embed_tokens.embedding[...][tokens]

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        head = self.embed_tokens.embedding[...].T if self.config.tied else self.lm_head.kernel[...]
        return wide_einsum("...d,dv->...v", x, head)

    def logits(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """Final norm and head, in float32 or wider."""
        return self.unembed(self.norm(x))

    def run(
        self,
        x: Float[Array, "batch position width"],
        edits: Tree = None,
        layer_edit: Callable[[Tree], LayerEdit] | None = None,
        collect: Callable[[Array, Array, Array], Tree] | None = None,
        blocks: int | None = None,
        visual: None = None,
    ) -> tuple[Float[Array, "batch position width"], Tree]:
        """All blocks over embedded positions 0, 1, ...; prompts are padded on the right, so causality hides padding.

        Args:
            x: embeddings.
            edits: a pytree with a leading layer axis; `layer_edit` turns one layer's slice of it into that layer's
                masks. None: the plain model.
            collect: called in every layer with its input hidden state, keys [batch, position, kv_heads, head_width]
                and values; what it returns is stacked over layers.
            blocks: run only so many blocks; None: all.
            visual: what cross-attention reads; a Llama has none.

        Returns:
            The last block's output before the final norm, and what was collected.
        """
        length = x.shape[1]
        rotation = self.rotation(jnp.arange(length)[None])
        block_of, stacked = split_blocks(self.layers)
        causal = causal_mask(length)

        def step(x: Array, index: Array) -> tuple[Array, Tree]:
            block = block_of(layer_slice(stacked, index))
            query = block.queries(x, rotation)
            key, value = block.keys_values(x, rotation)
            collected = None if collect is None else collect(x, key, value)
            if layer_edit is None:
                attended = causal_attend(query, key, value, block.scale)
                x = x + block.attention_output(attended)
                return x + block.mlp_output(x), collected
            edit = layer_edit(layer_slice(edits, index))
            allowed = causal[None, None] if edit.blocked is None else causal & ~edit.blocked
            attended = attend(query, key, value, block.scale, allowed, edit.zeroed)
            x = x + drop(block.attention_output(attended), edit.attention_dropped)
            return x + drop(block.mlp_output(x), edit.mlp_dropped), collected

        return jax.lax.scan(step, x, jnp.arange(self.config.layers if blocks is None else blocks))
