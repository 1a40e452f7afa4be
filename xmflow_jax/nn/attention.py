"""Attention weights under edits: which edges are blocked, and what becomes of a row with nothing left.

A row with no permitted source outputs zero. Backends disagree otherwise: an additive mask of the smallest finite
number gives a uniform average there, and one that also encodes causality lets the row see the future.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from xmflow_jax.machine.partitioning import MODEL, mesh_size

# Far below any real attention logit, and finite, so that `masked - masked` is 0 and not NaN.
MASKED = -1e30

# Rows that `causal_attend` takes at a time.
CAUSAL_BLOCK = 256


class LayerEdit(NamedTuple):
    """What one layer is told to do differently. None means: nothing of that kind.

    Attributes:
        blocked: edges removed before the softmax; the others are renormalised.
        zeroed: edges whose weight is set to zero after the softmax; the others keep theirs.
        attention_dropped: positions whose attention output (after the output projection) is zero.
        mlp_dropped: positions whose MLP output is zero.
        cross_blocked, cross_zeroed, cross_dropped: the same of cross-attention, whose sources are the encoder's
            positions.
    """

    blocked: Bool[Array, "*#batch #heads target source"] | None = None
    zeroed: Bool[Array, "*#batch #heads target source"] | None = None
    attention_dropped: Bool[Array, "*#batch target"] | None = None
    mlp_dropped: Bool[Array, "*#batch target"] | None = None
    cross_blocked: Bool[Array, "*#batch #heads target visual"] | None = None
    cross_zeroed: Bool[Array, "*#batch #heads target visual"] | None = None
    cross_dropped: Bool[Array, "*#batch target"] | None = None


def drop(
    output: Float[Array, "*batch target width"], dropped: Bool[Array, "*#batch target"] | None
) -> Float[Array, "*batch target width"]:
    """`output` with zero at the dropped positions."""
    return output if dropped is None else jnp.where(dropped[..., None], jnp.zeros_like(output), output)


def wide_einsum(letters: str, *operands: Array) -> Array:
    """An einsum whose products are summed, and returned, in float32 or wider.

    A CPU's matmuls cannot take bfloat16 and give float32 in every shape, so there the operands are widened first; the
    products are the same, since float32 holds them exactly.
    """
    wide = jnp.promote_types(operands[0].dtype, jnp.float32)
    if all(operand.dtype == wide for operand in operands):
        return jnp.einsum(letters, *operands)
    return jax.lax.platform_dependent(
        *operands,
        cpu=lambda *own: jnp.einsum(letters, *(x.astype(wide) for x in own)),
        default=lambda *own: jnp.einsum(letters, *own, preferred_element_type=wide),
    )


def attention_weights(
    logits: Float[Array, "*batch heads target source"],
    allowed: Bool[Array, "*#batch #heads target source"] | None,
    zeroed: Bool[Array, "*#batch #heads target source"] | None = None,
) -> Float[Array, "*batch heads target source"]:
    """Softmax over the permitted sources.

    Blocked weights are exactly 0, and so is every weight of a row with no permitted source.
    """
    if allowed is not None:
        logits = jnp.where(allowed, logits, MASKED)
    peak = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - peak)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    if allowed is not None:
        # exp(MASKED - peak) is exactly 0 unless every source is masked: then it is 1, and must become 0.
        weights = jnp.where(peak > MASKED / 2, weights, 0.0)
    return weights if zeroed is None else jnp.where(zeroed, 0.0, weights)


def attend(
    query: Float[Array, "*batch target heads head_width"],
    key: Float[Array, "*batch source kv_heads head_width"],
    value: Float[Array, "*batch source kv_heads head_width"],
    scale: float,
    allowed: Bool[Array, "*#batch #heads target source"] | None = None,
    zeroed: Bool[Array, "*#batch #heads target source"] | None = None,
) -> Float[Array, "*batch target heads head_width"]:
    """Attention with grouped heads: query head h reads key-value head h // (heads // kv_heads).

    Logits and softmax are float32 (or wider); the weights are cast to the values' type, as published eager code does.
    """
    heads, kv_heads = query.shape[-2], key.shape[-2]
    key, value = (jnp.repeat(x, heads // kv_heads, axis=-2) if kv_heads != heads else x for x in (key, value))
    logits = wide_einsum("...thd,...shd->...hts", query, key) * scale
    weights = attention_weights(logits, allowed, zeroed).astype(value.dtype)
    return jnp.einsum("...hts,...shd->...thd", weights, value)


# Attention logits of all heads that a CPU's cache holds.
FEW_LOGITS: Final = 2**18


def for_each_head(function: Callable[..., Array], *heads: Any, logits: int | None = None) -> Array:
    """`function` over the leading (key-value head) axis of its arguments.

    On a CPU one head after the other, because the attention logits of all of them would leave the cache (measured at
    2,928 sources: 107 GFLOP/s against 49), unless there are so few that a loop costs more; elsewhere, and where the
    heads are spread over devices, all at once.

    Args:
        logits: how many there are, of all heads together; None: many.
    """
    if mesh_size(MODEL) > 1 or (logits is not None and logits <= FEW_LOGITS):
        return jax.vmap(function)(*heads)
    return jax.lax.platform_dependent(
        *heads,
        cpu=lambda *own: jax.lax.map(lambda one: function(*one), own),
        default=lambda *own: jax.vmap(function)(*own),
    )


def causal_attend(
    query: Float[Array, "batch position heads head_width"],
    key: Float[Array, "batch position kv_heads head_width"],
    value: Float[Array, "batch position kv_heads head_width"],
    scale: float,
    block: int = CAUSAL_BLOCK,
) -> Float[Array, "batch position heads head_width"]:
    """Causal attention with nothing blocked, in blocks of rows that skip the sources after them.

    Equal to `attend` with a lower triangle; a long prompt costs little more than half of it.
    """
    batch, length, heads, width = query.shape
    kv_heads = key.shape[2]

    def one_head(query: Array, key: Array, value: Array) -> Array:
        outputs = []
        for start in range(0, length, block):
            stop = min(start + block, length)
            allowed = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)[None, :]
            rows = (query[:, start:stop], key[:, :stop, None], value[:, :stop, None])
            outputs.append(attend(*rows, scale, allowed[None, None]))
        return jnp.concatenate(outputs, axis=1)

    grouped = jnp.moveaxis(query.reshape(batch, length, kv_heads, heads // kv_heads, width), 2, 0)
    attended = for_each_head(one_head, grouped, jnp.moveaxis(key, 2, 0), jnp.moveaxis(value, 2, 0))
    return jnp.moveaxis(attended, 0, 2).reshape(batch, length, heads, width)


def causal_mask(length: int) -> Bool[Array, "target source"]:
    """Which source each target may see::

    target 0   x . . .
    target 1   x x . .
    target 2   x x x .
    target 3   x x x x
    """
    return jax.lax.iota(int, length)[:, None] >= jax.lax.iota(int, length)[None, :]
