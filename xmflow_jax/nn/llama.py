"""The Llama decoder (transformers `LlamaForCausalLM`): rotary positions, RMSNorm, SwiGLU, grouped heads.

Mistral (`MistralForCausalLM`) adds a sliding window, Qwen2 (`Qwen2ForCausalLM`) biases of queries, keys and values.
The decoder is a stack (`interfaces.Stack`) of one group of blocks: whoever runs it says how its site attends.
"""

from dataclasses import dataclass, field
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.anatomy import LIMIT, MLP, SELF
from xmflow_jax.nn.attention import wide_einsum
from xmflow_jax.nn.interfaces import Attend, Drop, Rows
from xmflow_jax.nn.layers import ACTIVATIONS, DType, RMSNorm, StackedBlocks, stack_blocks
from xmflow_jax.nn.rotary import RotaryScaling, Rotation, rotary, rotary_by_axis, rotate

Tree = Any


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama decoder, or of one of its form.

    Attributes:
        positions: of prompt and answer together, at most, as trained; rotary angles have no end of their own. It shapes
            no parameter.
        model_type: the decoder's own name in published files (`weights.text_decoder`); nothing here depends on it.
        rope_scaling: of the rotary frequencies; None: none.
        qkv_bias: queries, keys and values have biases.
        span: a position sees so many sources, itself the last of them, in every layer (a sliding window); None: all.
        sections: how many rotary frequencies turn with the time, the row and the column of a position, one section
            after the other; None: positions have one axis.
    """

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
    positions: int = field(default=4096, metadata=LIMIT)
    model_type: str = "llama"
    rope_scaling: RotaryScaling | None = None
    qkv_bias: bool = False
    span: int | None = None
    sections: tuple[int, int, int] | None = None


class LlamaAttention(nnx.Module):
    """The four projections; attention itself is the caller's, who knows what is blocked."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int, bias: bool) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=bias, param_dtype=dtype, rngs=rngs)

        self.q_proj = linear(config.width, config.heads * config.head_width, config.qkv_bias)
        self.k_proj = linear(config.width, config.kv_heads * config.head_width, config.qkv_bias)
        self.v_proj = linear(config.width, config.kv_heads * config.head_width, config.qkv_bias)
        self.o_proj = linear(config.heads * config.head_width, config.width, False)


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
    """One decoder layer (`interfaces.Block`): self-attention and MLP, each on the normed input and added to it."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.input_layernorm = RMSNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.self_attn = LlamaAttention(config, dtype=dtype, rngs=rngs)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.mlp = LlamaMLP(config, dtype=dtype, rngs=rngs)
        self.config = config

    def _by_head(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        return x.reshape(*x.shape[:-1], -1, self.config.head_width)

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: Rotation, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        """The layer's output at the wanted rows; keys and queries are rotated, values are not."""
        normed = self.input_layernorm(x)
        key = rotate(self._by_head(self.self_attn.k_proj(normed)), rotation)
        value = self._by_head(self.self_attn.v_proj(normed))
        query = self._by_head(self.self_attn.q_proj(rows(normed)))
        query = rotate(query, (rows(rotation[0]), rows(rotation[1])))
        attended = attend(SELF, query, (key, value), self.config.head_width**-0.5, self.config.span)
        x = rows(x) + drop(SELF, self.self_attn.o_proj(attended.reshape(*attended.shape[:-2], -1)))
        return x + drop(MLP, self.mlp(self.post_attention_layernorm(x)))


class LlamaDecoder(nnx.Module):
    """Embedding, stacked blocks, final norm and head (the embedding itself where tied)."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.embed_tokens = nnx.Embed(config.vocabulary, config.width, param_dtype=dtype, rngs=rngs)
        self.layers = stack_blocks(lambda r: LlamaBlock(config, dtype=dtype, rngs=r), config.layers, rngs)
        self.norm = RMSNorm(config.width, config.norm_eps, dtype=dtype, rngs=rngs)
        if not config.tied:
            self.lm_head = nnx.Linear(config.width, config.vocabulary, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.config = config

    @property
    def groups(self) -> tuple[StackedBlocks, ...]:
        """All layers are alike."""
        return (StackedBlocks(self.layers, self.config.layers, (SELF, MLP)),)

    def rotation(self, ids: Int[Array, "*batch axis position"]) -> Rotation:
        """The rotary angles of positions with these ids, shared by all layers."""
        if self.config.sections is not None:
            return rotary_by_axis(ids, self.config.sections, self.config.head_width, self.config.rope_theta)
        return rotary(ids[..., 0, :], self.config.head_width, self.config.rope_theta, self.config.rope_scaling)

    def embed(
        self, tokens: Int[Array, "*batch position"], ids: Int[Array, "*#batch axis position"]
    ) -> Float[Array, "*batch position width"]:
        """Word embeddings, in the parameters' own type; where a token stands is told to attention alone."""
        return self.embed_tokens.embedding[...][tokens]

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        head = self.embed_tokens.embedding[...].T if self.config.tied else self.lm_head.kernel[...]
        return wide_einsum("...d,dv->...v", x, head)
