"""The vision towers of Qwen2-VL (arXiv 2409.12191), Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL (arXiv 2511.21631):
pictures of any size as rows of patches, rotary positions by row and column, attention within an image or within its
windows, and a merger of patches.

Patches come in merge blocks: the four of a two-by-two square one after the other, squares in reading order.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.attention import attend
from xmflow_jax.nn.layers import (
    ACTIVATIONS,
    DType,
    LayerNorm,
    RMSNorm,
    exact_gelu,
    layer_slice,
    split_blocks,
    stack_blocks,
)
from xmflow_jax.nn.rotary import Rotation, rotate

# A still image is shown to the towers for two moments.
MOMENTS = 2
_THETA = 10000.0


@dataclass(frozen=True)
class QwenVisionConfig:
    """Sizes of a tower.

    Attributes:
        patch_size: side in pixels.
        merge: side of a merge block, in patches.
        text_width: of the features that the merger gives.
        gated: Qwen2.5-VL's form: RMS norms and gated MLPs. Else Qwen2-VL's: layer norms and plain MLPs.
        window: side of the windows in pixels; None: every layer attends over a whole image.
        whole_layers: the layers that do so where there are windows.
        activation: of the MLPs.
        table: Qwen3-VL's form: patches have a bias and learned position embeddings, a square table of this side that is
            resampled to a picture's grid; None: rotary positions alone.
        deep_layers: ascending; of these layers' outputs, too, features are made.
    """

    patch_size: int
    merge: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    text_width: int
    gated: bool
    window: int | None = None
    whole_layers: tuple[int, ...] = ()
    activation: str = "silu"
    norm_eps: float = 1e-6
    table: int | None = None
    deep_layers: tuple[int, ...] = ()

    @property
    def factor(self) -> int:
        """Side in pixels of what one image position shows."""
        return self.patch_size * self.merge

    @property
    def patch_numbers(self) -> int:
        """Numbers that tell of a patch: colours of its pixels, for every moment."""
        return 3 * MOMENTS * self.patch_size**2


class QwenVisionAttention(nnx.Module):
    """Self-attention with biases over the patches of one segment."""

    def __init__(self, config: QwenVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear() -> nnx.Linear:
            return nnx.Linear(config.width, config.width, param_dtype=dtype, rngs=rngs)

        self.q_proj, self.k_proj, self.v_proj, self.proj = linear(), linear(), linear(), linear()
        self.heads = config.heads

    def __call__(
        self,
        x: Float[Array, "batch patch width"],
        rotation: Rotation,
        segments: Int[Array, "batch patch"],
    ) -> Float[Array, "batch patch width"]:
        query, key, value = (
            proj(x).reshape(*x.shape[:-1], self.heads, -1) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        together = segments[:, None, :, None] == segments[:, None, None, :]
        scale = query.shape[-1] ** -0.5
        attended = attend(rotate(query, rotation), rotate(key, rotation), value, scale, together)
        return self.proj(attended.reshape(x.shape))


class QwenVisionMLP(nnx.Module):
    """`down(act(gate(x)) * up(x))`, or `fc2(act(fc1(x)))`, with biases."""

    def __init__(self, config: QwenVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, param_dtype=dtype, rngs=rngs)

        width, inner = config.width, config.mlp_width
        if config.gated:
            self.gate_proj, self.up_proj = linear(width, inner), linear(width, inner)
            self.down_proj = linear(inner, width)
        else:
            self.fc1, self.fc2 = linear(width, inner), linear(inner, width)
        self.config = config

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        activation = ACTIVATIONS[self.config.activation]
        if self.config.gated:
            return self.down_proj(activation(self.gate_proj(x)) * self.up_proj(x))
        return self.fc2(activation(self.fc1(x)))


def _norm(config: QwenVisionConfig, dtype: DType, rngs: nnx.Rngs, width: int | None = None) -> RMSNorm | LayerNorm:
    kind = RMSNorm if config.gated else LayerNorm
    return kind(width or config.width, config.norm_eps, dtype=dtype, rngs=rngs)


class QwenVisionBlock(nnx.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: QwenVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = _norm(config, dtype, rngs), _norm(config, dtype, rngs)
        self.attn = QwenVisionAttention(config, dtype=dtype, rngs=rngs)
        self.mlp = QwenVisionMLP(config, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch patch width"], rotation: Rotation, segments: Int[Array, "batch patch"]
    ) -> Float[Array, "batch patch width"]:
        x = x + self.attn(self.norm1(x), rotation, segments)
        return x + self.mlp(self.norm2(x))


class QwenMerger(nnx.Module):
    """A merge block's patches, joined and brought to the decoder's width through two linear layers.

    Attributes:
        deep: the norm is over the joined patches, else over each of them.
    """

    def __init__(self, config: QwenVisionConfig, deep: bool = False, *, dtype: DType, rngs: nnx.Rngs) -> None:
        joined = config.width * config.merge**2
        self.ln_q = _norm(config, dtype, rngs, joined if deep else None)
        self.linear_1 = nnx.Linear(joined, joined, param_dtype=dtype, rngs=rngs)
        self.linear_2 = nnx.Linear(joined, config.text_width, param_dtype=dtype, rngs=rngs)
        self.joined, self.deep = joined, deep

    def __call__(self, x: Float[Array, "batch patch width"]) -> Float[Array, "batch visual text"]:
        x = x if self.deep else self.ln_q(x)
        x = x.reshape(len(x), -1, self.joined)
        x = self.ln_q(x) if self.deep else x
        return self.linear_2(exact_gelu(self.linear_1(x)))


class QwenVision(nnx.Module):
    """The tower."""

    def __init__(self, config: QwenVisionConfig, *, dtype: DType, rngs: nnx.Rngs) -> None:
        normal, side = nnx.initializers.normal(0.02), config.patch_size
        self.patch_embedding = nnx.Param(normal(rngs.params(), (3, MOMENTS, side, side, config.width), dtype))
        self.blocks = stack_blocks(lambda r: QwenVisionBlock(config, dtype=dtype, rngs=r), config.layers, rngs)
        self.merger = QwenMerger(config, dtype=dtype, rngs=rngs)
        if config.table is not None:
            self.patch_bias = nnx.Param(normal(rngs.params(), (config.width,), dtype))
            self.position_embedding = nnx.Param(normal(rngs.params(), (config.table**2, config.width), dtype))
        if config.deep_layers:
            self.deep_mergers = stack_blocks(
                lambda r: QwenMerger(config, deep=True, dtype=dtype, rngs=r), len(config.deep_layers), rngs
            )
        self.config = config

    def rotation(self, rows: Int[Array, "batch patch"], columns: Int[Array, "batch patch"]) -> Rotation:
        """Half of a head's pairs turn with the row, half with the column."""
        width = self.config.width // self.config.heads // 2
        frequencies = 1.0 / _THETA ** (jnp.arange(0, width, 2, dtype=jnp.float32) / width)
        angles = [place[..., None].astype(jnp.float32) * frequencies for place in (rows, columns)]
        both = jnp.concatenate(angles, axis=-1)
        return jnp.cos(both), jnp.sin(both)

    def __call__(
        self,
        patches: Float[Array, "batch patch numbers"],
        rows: Int[Array, "batch patch"],
        columns: Int[Array, "batch patch"],
        images: Int[Array, "batch patch"],
        windows: Int[Array, "batch patch"],
        reads: Int[Array, "batch patch 4"] | None = None,
        shares: Float[Array, "batch patch 4"] | None = None,
    ) -> Float[Array, "batch visual features"]:
        """Features of every merge block: those of the last layer, behind them those of the deep layers.

        Args:
            patches: in merge blocks, a prompt's images one after the other.
            rows, columns: of each patch in its image.
            images, windows: which of the prompt's images and windows it belongs to.
            reads, shares: entries of the position table that each patch has shares of; None where there is no table.
        """
        kernel = self.patch_embedding[...]
        x = patches.astype(kernel.dtype) @ kernel.reshape(-1, kernel.shape[-1])
        if reads is not None and shares is not None:
            spots = jnp.einsum("...nw,...n->...w", self.position_embedding[...][reads], shares)
            x = x + self.patch_bias[...] + spots.astype(x.dtype)
        rotation = self.rotation(rows, columns)
        segments = (images, windows)
        deep, start = [], 0
        for layer in self.config.deep_layers:
            x = self._layers(x, rotation, segments, start, layer + 1)
            deep.append(x)
            start = layer + 1
        x = self._layers(x, rotation, segments, start, self.config.layers)
        merger, stacked = split_blocks(self.deep_mergers) if deep else (None, None)
        later = [merger(layer_slice(stacked, number))(state) for number, state in enumerate(deep) if merger is not None]
        return jnp.concatenate([self.merger(x), *later], axis=-1) if later else self.merger(x)

    def _layers(
        self,
        x: Float[Array, "batch patch width"],
        rotation: Rotation,
        segments: tuple[Int[Array, "batch patch"], Int[Array, "batch patch"]],
        start: int,
        stop: int,
    ) -> Float[Array, "batch patch width"]:
        """Layers `start` to `stop - 1`, each over whole images or over windows."""
        if start == stop:
            return x
        config = self.config
        whole = [config.window is None or layer in config.whole_layers for layer in range(start, stop)]
        block, stacked = split_blocks(self.blocks)

        def layer(x: Array, told: tuple[Array, Array]) -> tuple[Array, None]:
            index, over_images = told
            made = block(layer_slice(stacked, index))
            return made(x, rotation, jnp.where(over_images, *segments)), None

        return jax.lax.scan(layer, x, (jnp.arange(start, stop), jnp.array(whole)))[0]
