"""The Llama decoder (transformers `LlamaForCausalLM`): rotary positions, RMSNorm, SwiGLU, grouped heads.

Mistral (`MistralForCausalLM`) adds a sliding window, Qwen2 (`Qwen2ForCausalLM`) biases of queries, keys and values,
Qwen3 (`Qwen3ForCausalLM`) norms of each head's queries and keys.
The decoder is a stack (`interfaces.Stack`) of one group of blocks: whoever runs it says how its site attends.
"""

from dataclasses import dataclass, field
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.anatomy import LIMIT, MLP, SELF
from xmflow_jax.nn.attention import wide_einsum
from xmflow_jax.nn.deepstack import AddingBlocks
from xmflow_jax.nn.interfaces import Attend, BlockGroup, Drop, Rows
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
        sections: how many rotary frequencies turn with the time, the row and the column of a position; None: positions
            have one axis.
        interleaved: these frequencies take turns (`rotary_by_axis`); else one section stands behind the other.
        head_norms: queries and keys are normed, each head by itself, before they are rotated.
        added: so many blocks, the first ones, add features of the image to their outputs (DeepStack).
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
    interleaved: bool = False
    head_norms: bool = False
    added: int = 0


class LlamaAttention(nnx.Module):
    """The four projections; attention itself is the caller's, who knows what is blocked."""

    def __init__(self, config: LlamaConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int, bias: bool) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=bias, param_dtype=dtype, rngs=rngs)

        self.q_proj = linear(config.width, config.heads * config.head_width, config.qkv_bias)
        self.k_proj = linear(config.width, config.kv_heads * config.head_width, config.qkv_bias)
        self.v_proj = linear(config.width, config.kv_heads * config.head_width, config.qkv_bias)
        self.o_proj = linear(config.heads * config.head_width, config.width, False)
        if config.head_norms:
            self.q_norm = RMSNorm(config.head_width, config.norm_eps, dtype=dtype, rngs=rngs)
            self.k_norm = RMSNorm(config.head_width, config.norm_eps, dtype=dtype, rngs=rngs)
        self.config = config

    def by_head(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        """Queries, keys or values, each head's apart."""
        return x.reshape(*x.shape[:-1], -1, self.config.head_width)

    def query(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        """Of normed states, before the rotation."""
        own = self.by_head(self.q_proj(x))
        return self.q_norm(own) if self.config.head_norms else own

    def key(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch heads head_width"]:
        """Of normed states, before the rotation."""
        own = self.by_head(self.k_proj(x))
        return self.k_norm(own) if self.config.head_norms else own


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

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: Rotation, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        """The layer's output at the wanted rows; keys and queries are rotated, values are not."""
        normed = self.input_layernorm(x)
        key = rotate(self.self_attn.key(normed), rotation)
        value = self.self_attn.by_head(self.self_attn.v_proj(normed))
        query = rotate(self.self_attn.query(rows(normed)), (rows(rotation[0]), rows(rotation[1])))
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
    def groups(self) -> tuple[BlockGroup, ...]:
        """All layers are alike."""
        blocks = StackedBlocks(self.layers, self.config.layers, (SELF, MLP))
        return (AddingBlocks(blocks, 0, self.config.added) if self.config.added else blocks,)

    def rotation(self, ids: Int[Array, "*batch axis position"]) -> Rotation:
        """The rotary angles of positions with these ids, shared by all layers."""
        config = self.config
        if config.sections is not None:
            return rotary_by_axis(ids, config.sections, config.head_width, config.rope_theta, config.interleaved)
        return rotary(ids[..., 0, :], config.head_width, config.rope_theta, config.rope_scaling)

    def embed(
        self, tokens: Int[Array, "*batch position"], ids: Int[Array, "*#batch axis position"]
    ) -> Float[Array, "*batch position width"]:
        """Word embeddings, in the parameters' own type; where a token stands is told to attention alone."""
        return self.embed_tokens.embedding[...][tokens]

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        head = self.embed_tokens.embedding[...].T if self.config.tied else self.lm_head.kernel[...]
        return wide_einsum("...d,dv->...v", x, head)
