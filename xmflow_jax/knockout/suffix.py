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
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.arrays import Positions, Switches, refuse_cross_attention
from xmflow_jax.knockout.schedule import Segment, Trie
from xmflow_jax.knockout.suffix_attention import Rows, cross_attend, dropped_rows, suffix_attend
from xmflow_jax.models.attention import attend, drop
from xmflow_jax.models.layers import layer_slice, split_blocks

Tree = Any


class BaseRun(NamedTuple):
    """What the base pass leaves for the configurations.

    Attributes:
        key, value: of every layer and position.
        hidden: input of every layer at the suffix rows `first`, `first + 1`, ...
        first: first suffix row of each prompt.
        logits: at the answer position.
        visual: cross-attention's keys and values [layer, batch, visual, heads, head_width], computed once per image for
            the whole study; None where the image stands in the prompt.
    """

    key: Float[Array, "layer batch kv_heads position head_width"]
    value: Float[Array, "layer batch kv_heads position head_width"]
    hidden: Float[Array, "layer batch row width"]
    first: Int[Array, " batch"]
    logits: Float[Array, "batch vocabulary"]
    visual: tuple[Array, Array] | None


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
    visual = model.visual_keys_values(features)
    x, before = decoder.run(model.embed(tokens, features), collect=collect, blocks=last_layer, visual=visual)
    block_of, stacked = split_blocks(decoder.layers)
    block = block_of(layer_slice(stacked, last_layer))
    key, value = block.keys_values(x, decoder.rotation(jnp.arange(x.shape[1])[None]))
    answer = rows_from(x, length - 1, 1)
    query = block.queries(answer, decoder.rotation(length[:, None] - 1))
    seen = (jnp.arange(x.shape[1]) < length[:, None])[:, None, None]
    answer = answer + block.attention_output(attend(query, key, value, block.scale, seen))
    if visual is not None:
        visual_key, visual_value = layer_slice(visual, last_layer)
        attended = attend(block.cross_queries(answer), visual_key, visual_value, block.cross_scale)
        answer = answer + block.cross_output(attended)
    logits = decoder.logits((answer + block.mlp_output(answer))[:, 0])
    last = jax.tree.map(lambda part: part[None], collect(x, key, value))
    keys, values, hidden = jax.tree.map(lambda *parts: jnp.concatenate(parts), before, last)
    return BaseRun(keys, values, hidden, first, logits, visual)


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
    if base.visual is None:
        refuse_cross_attention(switches)
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
        if base.visual is not None:
            key, value = layer_slice(base.visual, index)
            attended = cross_attend(block.cross_queries(x), key, value, block.cross_scale, at, on, positions)
            x = x + drop(block.cross_output(attended), dropped_rows(on.cross_output, positions.cross_output, at))
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
