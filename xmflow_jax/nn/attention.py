"""Attention weights under edits: which edges are treated how, and what becomes of a row with nothing left.

A row with no permitted source outputs zero. Backends disagree otherwise: an additive mask of the smallest finite
number gives a uniform average there, and one that also encodes causality lets the row see the future.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from xmflow_jax.machine.partitioning import MODEL, mesh_size
from xmflow_jax.nn.treatment import Treated, Treatment

# Far below any real attention logit, and finite, so that `masked - masked` is 0 and not NaN.
MASKED = -1e30


class Part(NamedTuple):
    """Some of the sources that query rows read.

    Attributes:
        logits: scaled [..., target, source].
        allowed: edges that are there; None: all of them.
        edges: edges that a knockout is about, by what becomes of them; broadcastable to the logits.
        value: of the sources.
        letters: the einsum of weights and values to what the rows get.
    """

    logits: Float[Array, "*batch target source"]
    allowed: Bool[Array, "..."] | None
    edges: Mapping[Treatment, Bool[Array, "..."]]
    value: Float[Array, "..."]
    letters: str


# What a knockout does at a site: the edges of every treatment, dense [..., head, target, source].
Edges = Mapping[Treatment, Bool[Array, "..."]]
NO_EDGES: Final[Edges] = {}


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


def scaled(logits: Array, scale: float, softcap: float | None = None) -> Array:
    """Attention logits from the products of queries and keys."""
    logits = logits * scale
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def attention_weights(
    logits: Float[Array, "*batch heads target source"],
    allowed: Bool[Array, "*#batch #heads #target source"] | None,
) -> Float[Array, "*batch heads target source"]:
    """Softmax over the permitted sources.

    The others' weights are exactly 0, and so is every weight of a row with no permitted source.
    """
    if allowed is not None:
        logits = jnp.where(allowed, logits, MASKED)
    peak = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - peak)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    if allowed is not None:
        # exp(MASKED - peak) is exactly 0 unless every source is masked: then it is 1, and must become 0.
        weights = jnp.where(peak > MASKED / 2, weights, 0.0)
    return weights


def without_removed(allowed: Array | None, edges: Edges) -> Array | None:
    """The permitted edges that are not taken away before the softmax; None: all."""
    for treatment, own in edges.items():
        if treatment.removed:
            allowed = ~own if allowed is None else allowed & ~own
    return allowed


def attend(
    query: Float[Array, "*batch target heads head_width"],
    key: Float[Array, "*batch source kv_heads head_width"],
    value: Float[Array, "*batch source kv_heads head_width"],
    scale: float,
    allowed: Bool[Array, "*#batch #heads #target source"] | None = None,
    edges: Edges = NO_EDGES,
    softcap: float | None = None,
) -> Float[Array, "*batch target heads head_width"]:
    """Attention with grouped heads: query head h reads key-value head h // (heads // kv_heads).

    Logits and softmax are float32 (or wider); the weights are cast to the values' type, as published eager code does.

    Args:
        edges: what a knockout does here [*#batch, #heads, target, source].
    """
    heads, kv_heads = query.shape[-2], key.shape[-2]
    key, value = (jnp.repeat(x, heads // kv_heads, axis=-2) if kv_heads != heads else x for x in (key, value))
    logits = scaled(wide_einsum("...thd,...shd->...hts", query, key), scale, softcap)
    allowed = without_removed(allowed, edges)
    weights = attention_weights(logits, allowed)
    kept = weights
    for treatment, own in edges.items():
        kept = kept if treatment.removed else jnp.where(own, 0.0, kept)
    attended = jnp.einsum("...hts,...shd->...thd", kept.astype(value.dtype), value)
    for treatment, own in edges.items():
        if treatment.instead is not None:
            there = own if allowed is None else own & allowed
            by_head = jnp.moveaxis(value, -2, -3)
            treated = Treated(weights, jnp.broadcast_to(there, weights.shape), by_head, "...hts,...hsd->...htd")
            attended += jnp.moveaxis(treatment.instead([treated]), -3, -2).astype(attended.dtype)
    return attended


def attend_over(*parts: Part) -> Float[Array, "*batch target head_width"]:
    """One softmax over all parts' sources; a row whose every source is removed outputs zero."""
    allowed = [without_removed(part.allowed, part.edges) for part in parts]
    masked = [
        part.logits if own is None else jnp.where(own, part.logits, MASKED)
        for part, own in zip(parts, allowed, strict=True)
    ]
    peak = functools.reduce(jnp.maximum, [one.max(-1, keepdims=True) for one in masked])
    weights = [jnp.exp(one - peak) for one in masked]
    total = sum(one.sum(-1, keepdims=True) for one in weights)
    attended = jnp.zeros((), peak.dtype)
    for part, weight in zip(parts, weights, strict=True):
        kept = weight
        for treatment, own in part.edges.items():
            kept = kept if treatment.removed else jnp.where(own, 0.0, kept)
        attended += wide_einsum(part.letters, kept.astype(part.value.dtype), part.value)
    for treatment in {one: None for part in parts for one in part.edges}:
        if treatment.instead is not None:
            attended += treatment.instead(
                [
                    Treated(
                        weight,
                        jnp.broadcast_to(
                            part.edges[treatment] if there is None else part.edges[treatment] & there, weight.shape
                        ),
                        part.value,
                        part.letters,
                    )
                    for part, weight, there in zip(parts, weights, allowed, strict=True)
                    if treatment in part.edges
                ]
            )
    return jnp.where(peak > MASKED / 2, attended / total, 0.0)


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
