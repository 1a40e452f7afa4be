"""GPT-2 with cross-attention in every block (transformers `GPT2LMHeadModel`, `add_cross_attention`): learned positions,
layer norms, biases everywhere.

The decoder is a stack (`interfaces.Stack`) of one group of blocks, whose cross-attention reads the image encoder's
states.
"""

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.anatomy import CROSS, MLP, SELF
from xmflow_jax.nn.attention import wide_einsum
from xmflow_jax.nn.interfaces import Attend, Drop, KeysValues, Rows
from xmflow_jax.nn.layers import ACTIVATIONS, DType, LayerNorm, StackedBlocks, stack_blocks

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
    """One layer (`interfaces.ReadingBlock`): self-attention, cross-attention, MLP, each added to its input."""

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

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: None, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        """The layer's output at the wanted rows; positions are in the embeddings, so nothing is rotated."""
        config, normed = self.config, self.ln_1(x)
        own = self._by_head(self.attn.k_proj(normed)), self._by_head(self.attn.v_proj(normed))
        query = self._by_head(self.attn.q_proj(rows(normed)))
        attended = attend(SELF, query, own, config.head_width**-0.5)
        x = rows(x) + drop(SELF, self.attn.c_proj(attended.reshape(*attended.shape[:-2], -1)))
        query = self._by_head(self.crossattention.q_proj(self.ln_cross_attn(x)))
        cross_scale = {HEAD_WIDTH: config.head_width, MODEL_WIDTH: config.width}[config.cross_scale] ** -0.5
        attended = attend(CROSS, query, None, cross_scale)
        x = x + drop(CROSS, self.crossattention.c_proj(attended.reshape(*attended.shape[:-2], -1)))
        return x + drop(MLP, self.mlp(self.ln_2(x)))

    def read(self, source: Float[Array, "*batch source width"]) -> KeysValues:
        """Cross-attention's keys and values of the encoder's states, which get no norm."""
        return self._by_head(self.crossattention.k_proj(source)), self._by_head(self.crossattention.v_proj(source))


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

    @property
    def groups(self) -> tuple[StackedBlocks, ...]:
        """All layers are alike."""
        return (StackedBlocks(self.layers, self.config.layers, (SELF, CROSS, MLP)),)

    def rotation(self, ids: Int[Array, "*batch axis position"]) -> None:
        """Nothing is rotated: see `embed`."""
        return None

    def embed(
        self, tokens: Int[Array, "*batch position"], ids: Int[Array, "*#batch axis position"]
    ) -> Float[Array, "*batch position width"]:
        """Word and position embeddings; ids have one axis."""
        return self.embed_tokens.embedding[...][tokens] + self.embed_positions[...][ids[..., 0, :]]

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        head = self.embed_tokens.embedding[...].T if self.config.tied else self.lm_head.kernel[...]
        return wide_einsum("...d,dv->...v", x, head)
