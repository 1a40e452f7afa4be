"""The fast engine's passes over the model: once the base run, then only the rows that a knockout can change.

With causal attention, blocking edges into target positions changes no position before the first target and no layer
before the window. So the base pass keeps the keys and values of every position, and the inputs of every layer at the
suffix; a configuration then runs over suffix rows alone, and its queries read the base run's keys and values for the
prefix (shared by all configurations: one un-batched operand) and its own for the suffix.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.knockout.arrays import Positions, Switches, dropped_positions, edge_mask
from xmflow_jax.knockout.schedule import Segment, Trie
from xmflow_jax.models.attention import MASKED, attend, drop, for_each_head, wide_einsum
from xmflow_jax.models.layers import layer_slice, split_blocks

Tree = Any

# Masks over the prefix and over the suffix itself.
Edges = tuple[Bool[Array, "..."], Bool[Array, "..."]]


class BaseRun(NamedTuple):
    """What the base pass leaves for the configurations.

    Attributes:
        key, value: of every layer and position.
        hidden: input of every layer at the suffix rows `first`, `first + 1`, ...
        first: first suffix row of each prompt.
        logits: at the answer position.
    """

    key: Float[Array, "layer batch kv_heads position head_width"]
    value: Float[Array, "layer batch kv_heads position head_width"]
    hidden: Float[Array, "layer batch row width"]
    first: Int[Array, " batch"]
    logits: Float[Array, "batch vocabulary"]


def rows_from(
    x: Float[Array, "batch position width"], start: Int[Array, " batch"], count: int
) -> Float[Array, "batch row width"]:
    """`count` consecutive positions of each prompt, from its own start."""
    return jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, count))(x, start)


def base_pass(
    graphdef: Any,
    params: Tree,
    tokens: Int[Array, "batch position"],
    length: Int[Array, " batch"],
    features: Float[Array, "batch visual width"],
    first: Int[Array, " batch"],
    rows: int,
) -> BaseRun:
    """One full pass with nothing blocked.

    Args:
        first: first suffix row of each prompt; `first + rows` must not exceed the padded length.
        rows: suffix rows kept.
    """
    model = nnx.merge(graphdef, params)
    decoder = model.language_model

    def collect(x: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        return key.swapaxes(1, 2), value.swapaxes(1, 2), rows_from(x, first, rows)

    # Of the last block only the answer's row is needed, beside everyone's keys and values.
    last_layer = decoder.config.layers - 1
    x, before = decoder.run(model.embed(tokens, features), collect=collect, blocks=last_layer)
    block_of, stacked = split_blocks(decoder.layers)
    block = block_of(layer_slice(stacked, last_layer))
    key, value = block.keys_values(x, decoder.rotation(jnp.arange(x.shape[1])[None]))
    answer = rows_from(x, length - 1, 1)
    query = block.queries(answer, decoder.rotation(length[:, None] - 1))
    seen = (jnp.arange(x.shape[1]) < length[:, None])[:, None, None]
    answer = answer + block.attention_output(attend(query, key, value, block.scale, seen))
    logits = decoder.logits((answer + block.mlp_output(answer))[:, 0])
    last = jax.tree.map(lambda part: part[None], collect(x, key, value))
    keys, values, hidden = jax.tree.map(lambda *parts: jnp.concatenate(parts), before, last)
    return BaseRun(keys, values, hidden, first, logits)


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
    prefix_key: Float[Array, "batch kv_heads prefix head_width"],
    prefix_value: Float[Array, "batch kv_heads prefix head_width"],
    scale: float,
    at: Rows,
    switches: Switches,
    positions: Positions,
) -> Float[Array, "batch config query heads head_width"]:
    """Attention of suffix rows to the shared prefix and to their own configuration's suffix, one softmax over both.

    Args:
        switches: this layer's, one row per configuration.
    """
    batch, configs, rows, heads, width = query.shape
    kv_heads, prefix = prefix_key.shape[1:3]
    before = (jnp.arange(prefix) < at.start[:, None])[:, None, None, None, :]
    causal = (at.query[:, :, None] >= (at.start[:, None] + jnp.arange(at.rows))[:, None, :])[:, None, None]
    by_head: list[tuple[str, Edges]] = []
    alike: list[tuple[str, Edges]] = []
    for kind in ("mask", "zero"):
        switch = getattr(switches, kind)
        if switch.shape[1]:
            roles = getattr(positions, f"{kind}_target"), getattr(positions, f"{kind}_source")
            edges = suffix_edges(switch, *roles, at, prefix, kv_heads)
            (by_head if edges[0].shape[0] > 1 else alike).append((kind, edges))

    def one_head(
        query: Array, key: Array, value: Array, prefix_key: Array, prefix_value: Array, own_edges: tuple[Edges, ...]
    ) -> Array:
        """One key-value head and its queries [batch, query head, config, query, width]."""
        edges = {kind: (own[0][0], own[1][0]) for kind, own in alike}
        edges |= {kind: own for (kind, _), own in zip(by_head, own_edges, strict=True)}
        prefix_logits = wide_einsum("bgcrd,bpd->bgcrp", query, prefix_key) * scale
        own_logits = wide_einsum("bgcrd,bcsd->bgcrs", query, key) * scale
        prefix_allowed, own_allowed = before, causal
        if "mask" in edges:
            prefix_allowed, own_allowed = before & ~edges["mask"][0], causal & ~edges["mask"][1]
        prefix_logits = jnp.where(prefix_allowed, prefix_logits, MASKED)
        own_logits = jnp.where(own_allowed, own_logits, MASKED)

        peak = jnp.maximum(prefix_logits.max(-1, keepdims=True), own_logits.max(-1, keepdims=True))
        prefix_weights, own_weights = jnp.exp(prefix_logits - peak), jnp.exp(own_logits - peak)
        total = prefix_weights.sum(-1, keepdims=True) + own_weights.sum(-1, keepdims=True)
        if "zero" in edges:
            prefix_weights = jnp.where(edges["zero"][0], 0.0, prefix_weights)
            own_weights = jnp.where(edges["zero"][1], 0.0, own_weights)
        prefix_weights, own_weights = prefix_weights.astype(value.dtype), own_weights.astype(value.dtype)
        attended = wide_einsum("bgcrp,bpd->bgcrd", prefix_weights, prefix_value)
        attended += wide_einsum("bgcrs,bcsd->bgcrd", own_weights, value)
        # A row whose every source is blocked outputs zero.
        return jnp.where(peak > MASKED / 2, attended / total, 0.0).astype(query.dtype)

    attended = for_each_head(
        one_head,
        query.reshape(batch, configs, rows, kv_heads, heads // kv_heads, width).transpose(3, 0, 4, 1, 2, 5),
        jnp.moveaxis(key, 3, 0),
        jnp.moveaxis(value, 3, 0),
        jnp.moveaxis(prefix_key, 1, 0),
        jnp.moveaxis(prefix_value, 1, 0),
        tuple(edges for _, edges in by_head),
    )
    return attended.transpose(1, 3, 4, 0, 2, 5).reshape(batch, configs, rows, heads, width)


def suffix_edges(
    switch: Bool[Array, "config action head"],
    target: Bool[Array, "batch action position"],
    source: Bool[Array, "batch action position"],
    at: Rows,
    prefix: int,
    kv_heads: int,
) -> Edges:
    """The dense masks of the switched edges from query rows to the prefix and to the suffix itself.

    Both are [key-value head, batch, query head, config, query, source], with heads of 1 unless a study names heads.
    """
    targets = jnp.take_along_axis(target, at.query[:, None], axis=-1)[:, None]
    own_sources = jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, at.rows, axis=-1))(
        source, at.start
    )[:, None]

    def by_group(mask: Bool[Array, "batch config head query source"]) -> Bool[Array, "k batch g config query source"]:
        groups = (1, 1) if mask.shape[2] == 1 else (kv_heads, mask.shape[2] // kv_heads)
        return mask.reshape(*mask.shape[:2], *groups, *mask.shape[3:]).transpose(2, 0, 3, 1, 4, 5)

    prefix_mask = edge_mask(switch[None], targets, source[:, None, :, :prefix])
    own_mask = edge_mask(switch[None], targets, own_sources)
    return by_group(prefix_mask), by_group(own_mask)


def suffix_pass(
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    trie: Trie,
    switches: Switches,
    positions: Positions,
    start: Int[Array, " batch"],
    length: Int[Array, " batch"],
    rows: int,
    prefix: int,
) -> Float[Array, "batch config vocabulary"]:
    """Logits at the answer position of a trie's configurations, recomputing `rows` suffix rows of each.

    Args:
        switches: the whole study's.
        start: first recomputed row of each prompt.
        rows, prefix: static; `start <= prefix`, and `start + rows` covers the prompt.
    """
    model = nnx.merge(graphdef, params)
    decoder = model.language_model
    block_of, stacked = split_blocks(decoder.layers)
    last_layer = decoder.config.layers - 1
    every_row = start[:, None] + jnp.arange(rows)
    rotation = decoder.rotation(every_row[:, None])

    def layer(x: Array, index: Any, members: Array, answer_only: bool = False) -> Array:
        """One block over all rows; of the last block only the answer's row is needed, beside all keys and values."""
        block = block_of(layer_slice(stacked, index))
        on = layer_slice(switches, (members, index))
        key, value = block.keys_values(x, rotation)
        query_rows = every_row
        if answer_only:
            query_rows = length[:, None] - 1
            x = jax.vmap(lambda one, row: one[:, row, None])(x, length - 1 - start)
        at = Rows(query_rows, start, rows)
        query = block.queries(x, decoder.rotation(query_rows[:, None]))
        prefix_key, prefix_value = base.key[index, :, :, :prefix], base.value[index, :, :, :prefix]
        attended = suffix_attend(query, key, value, prefix_key, prefix_value, block.scale, at, on, positions)
        x = x + drop(
            block.attention_output(attended), dropped_rows(on.attention_output, positions.attention_output, at)
        )
        return x + drop(block.mlp_output(x), dropped_rows(on.mlp_output, positions.mlp_output, at))

    def enter(x: Array | None, segment: Segment) -> Array:
        """The rows of a segment: each continues a row of the one before, or starts from the base run."""
        base_rows = rows_from(base.hidden[segment.start], start - base.first, rows)[:, None]
        known = base_rows if x is None else jnp.concatenate([base_rows, x], axis=1)
        return known[:, jnp.array(segment.parents) + 1]

    def run_layers(x: Array, start: int, stop: int, members: Array) -> Array:
        """Layers `start` to `stop - 1`, the last layer not among them."""
        if stop - start == 1:
            return layer(x, start, members)
        step = lambda x, index: (layer(x, index, members), None)  # noqa: E731
        return jax.lax.scan(step, x, jnp.arange(start, stop))[0]

    x: Array | None = None
    for segment in trie.segments:
        x, members = enter(x, segment), jnp.array(segment.members)
        if segment.start < last_layer:
            x = run_layers(x, segment.start, min(segment.stop, last_layer), members)
        if segment.stop > last_layer:
            x = layer(x, last_layer, members, answer_only=True)
    if x is None:
        return jnp.broadcast_to(base.logits[:, None], (len(start), len(trie.ends), base.logits.shape[-1]))
    logits = jnp.concatenate([base.logits[:, None], decoder.logits(x[:, :, 0])], axis=1)
    return logits[:, jnp.array(trie.ends) + 1]


def dropped_rows(
    switch: Bool[Array, "config action"], target: Bool[Array, "batch action position"], at: Rows
) -> Bool[Array, "batch config query"] | None:
    """Query rows at which a switched output is zero; None where the study drops no output of this kind."""
    if not switch.shape[1]:
        return None
    return dropped_positions(switch[None], jnp.take_along_axis(target, at.query[:, None], axis=-1)[:, None])
