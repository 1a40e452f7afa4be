"""Attention of the rows that a knockout recomputes: to what all configurations share, and to their own rows.

Shared are the base run's keys and values of the prefix and, for models that read the image by cross-attention, the
encoder's; they are one un-batched operand for all configurations.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.knockout.arrays import Positions, Switches, drawn_mask, dropped_positions, edge_mask
from xmflow_jax.nn.attention import MASKED, for_each_head, wide_einsum

# Masks over the prefix and over the suffix itself.
Edges = tuple[Bool[Array, "..."], ...]


class Part(NamedTuple):
    """Some of the sources that query rows read, for one key-value head.

    Attributes:
        logits: scaled.
        allowed: edges that are there and not blocked; None: all of them.
        zeroed: edges whose weight is set to zero after the softmax.
        value: of the sources.
        letters: the einsum of weights and values.
    """

    logits: Float[Array, "batch group config query source"]
    allowed: Bool[Array, "..."] | None
    zeroed: Bool[Array, "..."] | None
    value: Float[Array, "..."]
    letters: str


def attend_over(*parts: Part) -> Float[Array, "batch group config query head_width"]:
    """One softmax over all parts' sources; a row whose every source is blocked outputs zero."""
    logits = [part.logits if part.allowed is None else jnp.where(part.allowed, part.logits, MASKED) for part in parts]
    peak = functools.reduce(jnp.maximum, [one.max(-1, keepdims=True) for one in logits])
    weights = [jnp.exp(one - peak) for one in logits]
    total = sum(one.sum(-1, keepdims=True) for one in weights)
    attended = jnp.zeros((), peak.dtype)
    for part, weight in zip(parts, weights, strict=True):
        kept = weight if part.zeroed is None else jnp.where(part.zeroed, 0.0, weight)
        attended += wide_einsum(part.letters, kept.astype(part.value.dtype), part.value)
    return jnp.where(peak > MASKED / 2, attended / total, 0.0)


class Rows(NamedTuple):
    """Which positions of each prompt a pass computes, and what they may read.

    Attributes:
        query: absolute position of every query row.
        start: first suffix row; prefix positions from there on are not used.
        rows: suffix rows that have keys and values of their own, from `start` on.
    """

    query: Int[Array, "batch query"]
    start: Int[Array, " batch"]
    rows: int


def suffix_attend(
    query: Float[Array, "batch config query heads head_width"],
    key: Float[Array, "batch config row kv_heads head_width"],
    value: Float[Array, "batch config row kv_heads head_width"],
    prefix_key: Float[Array, "batch kv_heads head_width prefix"],
    prefix_value: Float[Array, "batch kv_heads prefix head_width"],
    scale: float,
    at: Rows,
    switches: Switches,
    positions: Positions,
) -> Float[Array, "batch config query heads head_width"]:
    """Attention of suffix rows to the shared prefix and to their own configuration's suffix, one softmax over both.

    Args:
        switches: this layer's, [prompt, configuration, ...]; a prompt axis of 1 stands for all prompts alike.
    """
    batch, configs, rows, heads, width = query.shape
    kv_heads, prefix = prefix_value.shape[1:3]
    before = (jnp.arange(prefix) < at.start[:, None])[:, None, None, None, :]
    causal = (at.query[:, :, None] >= (at.start[:, None] + jnp.arange(at.rows))[:, None, :])[:, None, None]
    edges: dict[str, Edges] = {}
    for kind in ("mask", "zero"):
        switch = getattr(switches, kind)
        if switch.shape[2]:
            roles = getattr(positions, f"{kind}_target"), getattr(positions, f"{kind}_source")
            edges[kind] = suffix_edges(switch, *roles, at, prefix, kv_heads)
        switch = getattr(switches, f"drawn_{kind}")
        if switch.shape[2]:
            drawn = drawn_suffix_edges(switch, getattr(positions, f"drawn_{kind}"), at, prefix, kv_heads)
            edges[kind] = with_drawn(edges.get(kind), drawn)
    alike, by_head = split_by_head(edges)

    def one_head(
        query: Array, key: Array, value: Array, prefix_key: Array, prefix_value: Array, own: dict[str, Edges]
    ) -> Array:
        """One key-value head and its queries [batch, query head, config, query, width]."""
        edges = alike | own
        prefix_logits = wide_einsum("bgcrd,bdp->bgcrp", query, prefix_key) * scale
        own_logits = wide_einsum("bgcrd,bcsd->bgcrs", query, key) * scale
        prefix_allowed, own_allowed = before, causal
        if "mask" in edges:
            prefix_allowed, own_allowed = before & ~edges["mask"][0], causal & ~edges["mask"][1]
        zeroed = edges.get("zero", (None, None))
        attended = attend_over(
            Part(prefix_logits, prefix_allowed, zeroed[0], prefix_value, "bgcrp,bpd->bgcrd"),
            Part(own_logits, own_allowed, zeroed[1], value, "bgcrs,bcsd->bgcrd"),
        )
        return attended.astype(query.dtype)

    attended = for_each_head(
        one_head,
        query.reshape(batch, configs, rows, kv_heads, heads // kv_heads, width).transpose(3, 0, 4, 1, 2, 5),
        jnp.moveaxis(key, 3, 0),
        jnp.moveaxis(value, 3, 0),
        jnp.moveaxis(prefix_key, 1, 0),
        jnp.moveaxis(prefix_value, 1, 0),
        by_head,
        logits=batch * configs * rows * heads * (prefix + at.rows),
    )
    return attended.transpose(1, 3, 4, 0, 2, 5).reshape(batch, configs, rows, heads, width)


def suffix_edges(
    switch: Bool[Array, "#batch config action head"],
    target: Bool[Array, "batch action position"],
    source: Bool[Array, "batch action position"],
    at: Rows,
    prefix: int,
    kv_heads: int,
) -> Edges:
    """The dense masks of the switched edges from query rows to the prefix and to the suffix itself.

    Both are [key-value head, batch, query head, config, query, source], with heads of 1 unless a study names heads.
    """
    targets = target_rows(target, at)
    own_sources = jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, at.rows, axis=-1))(
        source, at.start
    )[:, None]
    prefix_mask = edge_mask(switch, targets, source[:, None, :, :prefix])
    own_mask = edge_mask(switch, targets, own_sources)
    return by_group(prefix_mask, kv_heads), by_group(own_mask, kv_heads)


def drawn_suffix_edges(
    switch: Bool[Array, "#batch config action head"],
    drawn: Bool[Array, "batch action position source"],
    at: Rows,
    prefix: int,
    kv_heads: int,
) -> Edges:
    """As `suffix_edges`, of drawn edges."""
    rows = drawn_rows(drawn, at)
    own = jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, at.rows, axis=-1))(rows, at.start)
    parts = rows[..., :prefix], own
    return tuple(by_group(drawn_mask(switch, part[:, None]), kv_heads) for part in parts)


def drawn_rows(
    drawn: Bool[Array, "batch action position source"], at: Rows
) -> Bool[Array, "batch action query source"]:
    """The drawn edges of the query rows."""
    return jnp.take_along_axis(drawn, at.query[:, None, :, None], axis=2)


def with_drawn(edges: Edges | None, drawn: Edges) -> Edges:
    """Both, where a study has pathways and controls of one mode."""
    return drawn if edges is None else tuple(one | other for one, other in zip(edges, drawn, strict=True))


def target_rows(target: Bool[Array, "batch action position"], at: Rows) -> Bool[Array, "batch 1 action query"]:
    """Which query rows an action is about."""
    return jnp.take_along_axis(target, at.query[:, None], axis=-1)[:, None]


def by_group(
    mask: Bool[Array, "batch config head query source"], kv_heads: int
) -> Bool[Array, "kv_head batch group config query source"]:
    """Query heads sorted by the key-value head that they read; both axes are 1 unless a study names heads."""
    groups = (1, 1) if mask.shape[2] == 1 else (kv_heads, mask.shape[2] // kv_heads)
    return mask.reshape(*mask.shape[:2], *groups, *mask.shape[3:]).transpose(2, 0, 3, 1, 4, 5)


def split_by_head(edges: dict[str, Edges]) -> tuple[dict[str, Edges], dict[str, Edges]]:
    """The masks [key-value head, ...] that are alike for all heads, without that axis, and the others."""
    by_head = {kind: masks for kind, masks in edges.items() if masks[0].shape[0] > 1}
    return {kind: tuple(mask[0] for mask in masks) for kind, masks in edges.items() if kind not in by_head}, by_head


def cross_attend(
    query: Float[Array, "batch config query heads head_width"],
    key: Float[Array, "batch visual heads head_width"],
    value: Float[Array, "batch visual heads head_width"],
    scale: float,
    at: Rows,
    switches: Switches,
    positions: Positions,
) -> Float[Array, "batch config query heads head_width"]:
    """Cross-attention of suffix rows to the encoder's positions, which all configurations share."""
    heads = query.shape[3]
    edges: dict[str, Edges] = {}
    for kind in ("cross_mask", "cross_zero"):
        switch = getattr(switches, kind)
        if switch.shape[2]:
            targets = target_rows(getattr(positions, f"{kind}_target"), at)
            sources = getattr(positions, f"{kind}_source")[:, None]
            edges[kind] = (by_group(edge_mask(switch, targets, sources), heads),)
        switch = getattr(switches, kind.replace("cross", "drawn"))
        dense = getattr(positions, f"{kind.replace('cross', 'drawn')}_cross")
        if switch.shape[2] and dense.shape[-1]:
            drawn = by_group(drawn_mask(switch, drawn_rows(dense, at)[:, None]), heads)
            edges[kind] = with_drawn(edges.get(kind), (drawn,))
    alike, by_head = split_by_head(edges)

    def one_head(query: Array, key: Array, value: Array, own: dict[str, Edges]) -> Array:
        edges = alike | own
        logits = wide_einsum("bgcrd,bvd->bgcrv", query, key) * scale
        allowed = ~edges["cross_mask"][0] if "cross_mask" in edges else None
        part = Part(logits, allowed, edges.get("cross_zero", (None,))[0], value, "bgcrv,bvd->bgcrd")
        return attend_over(part).astype(query.dtype)

    attended = for_each_head(
        one_head,
        jnp.moveaxis(query, 3, 0)[:, :, None],
        jnp.moveaxis(key, 2, 0),
        jnp.moveaxis(value, 2, 0),
        by_head,
    )
    return jnp.moveaxis(attended[:, :, 0], 0, 3)


def dropped_rows(
    switch: Bool[Array, "#batch config action"], target: Bool[Array, "batch action position"], at: Rows
) -> Bool[Array, "batch config query"] | None:
    """Query rows at which a switched output is zero; None where the study drops no output of this kind."""
    if not switch.shape[2]:
        return None
    return dropped_positions(switch, target_rows(target, at))
