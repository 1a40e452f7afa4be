"""The small layers that the families share, and how identical blocks are stacked.

Norms compute in float32 whatever the parameters' type, as the published models do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from xmflow_jax.nn.anatomy import Site

Tree = Any
DType = Any  # whatever jnp.dtype() takes


class RMSNorm(nnx.Module):
    """Root-mean-square norm: `scale * x / sqrt(mean(x^2) + eps)` (transformers `LlamaRMSNorm`)."""

    def __init__(self, width: int, eps: float, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
        return self.scale[...] * x32.astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer norm with scale and bias, statistics in float32 (`torch.nn.LayerNorm`)."""

    def __init__(self, width: int, eps: float, *, dtype: DType, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((width,), dtype))
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
        return (x32 * self.scale[...] + self.bias[...]).astype(x.dtype)


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x * sigmoid(1.702 x)`, the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The GELU by the error function; `jax.nn.gelu` alone would take the tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


# The activations by the names that checkpoints' configurations use.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": exact_gelu,
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def stack_blocks(make_block: Callable[[nnx.Rngs], nnx.Module], count: int, rngs: nnx.Rngs) -> nnx.Module:
    """`count` identical blocks as one module whose every parameter has a leading layer axis.

    One `lax.scan` over it compiles the block once, where an unrolled stack compiles it `count` times.
    """

    @nnx.split_rngs(splits=count)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs: nnx.Rngs) -> nnx.Module:
        return make_block(rngs)

    return make(rngs)


def layer_slice(stacked: Tree, index: Any) -> Tree:
    """The parameters of layer `index` (an int, a slice, or a traced index) of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def split_blocks(blocks: nnx.Module) -> tuple[Callable[[Tree], nnx.Module], Tree]:
    """What a scan over stacked blocks needs: (parameters of one layer -> that block, the stacked parameters)."""
    graphdef, stacked = nnx.split(blocks)
    return lambda layer: nnx.merge(graphdef, layer), stacked


@dataclass(frozen=True)
class StackedBlocks:
    """Consecutive blocks with parameters alike, as `stack_blocks` made them (`interfaces.BlockGroup`).

    Attributes:
        stacked: the module whose every parameter has a leading layer axis.
        layers: how many blocks there are.
        sites: of each of them.
    """

    stacked: nnx.Module
    layers: int
    sites: tuple[Site, ...]

    def block(self, index: Any) -> Any:
        """The block of layer `index` of this group, which may be traced.

        Indexed inside a scan, where slicing the stack before it would copy the weights.
        """
        block_of, parameters = split_blocks(self.stacked)
        return block_of(layer_slice(parameters, index))
