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
from xmflow_jax.models.attention import MASKED, drop
from xmflow_jax.models.layers import layer_slice, split_blocks

Tree = Any


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

    last, (key, value, hidden) = decoder.run(model.embed(tokens, features), collect=collect)
    logits = decoder.logits(rows_from(last, length - 1, 1)[:, 0])
    return BaseRun(key, value, hidden, first, logits)


def suffix_attend(
    query: Float[Array, "batch config row heads head_width"],
    key: Float[Array, "batch config row kv_heads head_width"],
    value: Float[Array, "batch config row kv_heads head_width"],
    prefix_key: Float[Array, "batch kv_heads prefix head_width"],
    prefix_value: Float[Array, "batch kv_heads prefix head_width"],
    scale: float,
    start: Int[Array, " batch"],
    switches: Switches,
    positions: Positions,
) -> Float[Array, "batch config row heads head_width"]:
    """Attention of suffix rows to the shared prefix and to their own configuration's suffix, one softmax over both.

    Args:
        start: first suffix row of each prompt; prefix positions from there on are not used.
        switches: this layer's, one row per configuration.
    """
    batch, configs, rows, heads, width = query.shape
    kv_heads, prefix = prefix_key.shape[1:3]
    wide = jnp.promote_types(query.dtype, jnp.float32)
    query = query.reshape(batch, configs, rows, kv_heads, heads // kv_heads, width).transpose(0, 3, 4, 1, 2, 5)

    blocked = None
    if switches.mask.shape[1]:
        blocked = suffix_edges(
            switches.mask, positions.mask_target, positions.mask_source, start, rows, prefix, kv_heads
        )
    zeroed = None
    if switches.zero.shape[1]:
        zeroed = suffix_edges(
            switches.zero, positions.zero_target, positions.zero_source, start, rows, prefix, kv_heads
        )

    before = (jnp.arange(prefix) < start[:, None])[:, None, None, None, None, :]
    causal = jnp.tril(jnp.ones((rows, rows), bool))
    prefix_logits = jnp.einsum("bkgcrd,bkpd->bkgcrp", query, prefix_key, preferred_element_type=wide) * scale
    own_logits = jnp.einsum("bkgcrd,bcskd->bkgcrs", query, key, preferred_element_type=wide) * scale
    prefix_logits = jnp.where(before if blocked is None else before & ~blocked[0], prefix_logits, MASKED)
    own_logits = jnp.where(causal if blocked is None else causal & ~blocked[1], own_logits, MASKED)

    peak = jnp.maximum(prefix_logits.max(-1, keepdims=True), own_logits.max(-1, keepdims=True))
    prefix_weights, own_weights = jnp.exp(prefix_logits - peak), jnp.exp(own_logits - peak)
    total = prefix_weights.sum(-1, keepdims=True) + own_weights.sum(-1, keepdims=True)
    if zeroed is not None:
        prefix_weights = jnp.where(zeroed[0], 0.0, prefix_weights)
        own_weights = jnp.where(zeroed[1], 0.0, own_weights)
    attended = jnp.einsum(
        "bkgcrp,bkpd->bkgcrd", prefix_weights.astype(value.dtype), prefix_value, preferred_element_type=wide
    ) + jnp.einsum("bkgcrs,bcskd->bkgcrd", own_weights.astype(value.dtype), value, preferred_element_type=wide)
    # A row whose every source is blocked outputs zero.
    attended = jnp.where(peak > MASKED / 2, attended / total, 0.0).astype(query.dtype)
    return attended.transpose(0, 3, 4, 1, 2, 5).reshape(batch, configs, rows, heads, width)


def suffix_edges(
    switch: Bool[Array, "config action head"],
    target: Bool[Array, "batch action position"],
    source: Bool[Array, "batch action position"],
    start: Int[Array, " batch"],
    rows: int,
    prefix: int,
    kv_heads: int,
) -> tuple[Bool[Array, "batch k g config row prefix"], Bool[Array, "batch k g config row row"]]:
    """The dense masks of the switched edges from suffix rows to the prefix and to the suffix itself.

    Both broadcast over heads unless a study names heads.
    """
    take = jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, rows, axis=-1))
    targets, own_sources = take(target, start)[:, None], take(source, start)[:, None]

    def by_group(mask: Bool[Array, "batch config head row source"]) -> Bool[Array, "batch k g config row source"]:
        groups = (1, 1) if mask.shape[2] == 1 else (kv_heads, mask.shape[2] // kv_heads)
        mask = jnp.moveaxis(mask, 2, 1)
        return mask.reshape(mask.shape[0], *groups, *mask.shape[2:])

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
    rotation = decoder.rotation(start[:, None, None] + jnp.arange(rows))
    take = jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, rows, axis=-1))
    attention_targets, mlp_targets = take(positions.attention_output, start), take(positions.mlp_output, start)

    def layer(x: Array, index: Any, on: Switches) -> Array:
        block = block_of(layer_slice(stacked, index))
        query, key, value = block.queries_keys_values(x, rotation)
        attended = suffix_attend(
            query, key, value, base.key[index, :, :, :prefix], base.value[index, :, :, :prefix],
            block.scale, start, on, positions,
        )  # fmt: skip
        no_attention = no_mlp = None
        if on.attention_output.shape[1]:
            no_attention = dropped_positions(on.attention_output[None], attention_targets[:, None])
        if on.mlp_output.shape[1]:
            no_mlp = dropped_positions(on.mlp_output[None], mlp_targets[:, None])
        x = x + drop(block.attention_output(attended), no_attention)
        return x + drop(block.mlp_output(x), no_mlp)

    def base_rows(index: int) -> Float[Array, "batch 1 row width"]:
        return rows_from(base.hidden[index], start - base.first, rows)[:, None]

    def run_segment(x: Array | None, segment: Segment) -> Array:
        entering = base_rows(segment.start)
        known = entering if x is None else jnp.concatenate([entering, x], axis=1)
        x = known[:, jnp.array(segment.parents) + 1]
        members = jnp.array(segment.members)
        if segment.stop - segment.start == 1:
            return layer(x, segment.start, layer_slice(switches, (members, segment.start)))
        indexes = jnp.arange(segment.start, segment.stop)
        step = lambda x, index: (layer(x, index, layer_slice(switches, (members, index))), None)  # noqa: E731
        return jax.lax.scan(step, x, indexes)[0]

    x: Array | None = None
    for segment in trie.segments:
        x = run_segment(x, segment)
    if x is None:
        return jnp.broadcast_to(base.logits[:, None], (len(start), len(trie.ends), base.logits.shape[-1]))
    answers = jax.vmap(lambda one, row: one[:, row])(x, length - 1 - start)
    logits = jnp.concatenate([base.logits[:, None], decoder.logits(answers)], axis=1)
    return logits[:, jnp.array(trie.ends) + 1]
