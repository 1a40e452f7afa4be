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
from xmflow_jax.knockout.fast.attention import Rows, cross_attend, dropped_rows, suffix_attend
from xmflow_jax.knockout.fast.schedule import Segment, Trie
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.machine.passes import FIRST, SECOND, rows_per_device, spread_rows
from xmflow_jax.nn.attention import attend, drop
from xmflow_jax.nn.layers import layer_slice, split_blocks

Tree = Any


class BaseRun(NamedTuple):
    """What the base pass leaves for the configurations.

    Attributes:
        key, value: of every layer and position; of keys the positions come last, as their product with queries reads
            them.
        hidden: input of every layer at the suffix rows `first`, `first + 1`, ...
        first: first suffix row of each prompt.
        logits: at the answer position.
        output: the last block's, at the answer position.
        visual: cross-attention's keys and values [layer, batch, visual, heads, head_width], computed once per image for
            the whole study; None where the image stands in the prompt.
    """

    key: Float[Array, "layer batch kv_heads head_width position"]
    value: Float[Array, "layer batch kv_heads position head_width"]
    hidden: Float[Array, "layer batch row width"]
    first: Int[Array, " batch"]
    logits: Float[Array, "batch vocabulary"]
    output: Float[Array, "batch width"]
    visual: tuple[Array, Array] | None


# Where the batch axis of each field is.
BASE_PARTS = BaseRun._make((SECOND, SECOND, SECOND, FIRST, FIRST, FIRST, SECOND))


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
        return jnp.moveaxis(key, 1, 3), value.swapaxes(1, 2), rows_from(x, first, rows)

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
    output = (answer + block.mlp_output(answer))[:, 0]
    logits = decoder.logits(output)
    last = jax.tree.map(lambda part: part[None], collect(x, key, value))
    keys, values, hidden = jax.tree.map(lambda *parts: jnp.concatenate(parts), before, last)
    return BaseRun(keys, values, hidden, first, logits, output, visual)


def recomputed_block(
    block: Any,
    x: Float[Array, "batch config query width"],
    rotation: Any,
    own: tuple[Array, Array],
    prefix: tuple[Array, Array],
    visual: tuple[Array, Array] | None,
    at: Rows,
    switches: Switches,
    positions: Positions,
) -> Float[Array, "batch config query width"]:
    """One block over some query rows, each reading the shared prefix and its own configuration's rows.

    Args:
        rotation: of the query rows.
        own: keys and values of every configuration's rows [batch, config, row, kv_heads, head_width].
        prefix: keys and values of the base run, as of `suffix_attend`.
        visual: what cross-attention reads in this layer [batch, visual, heads, head_width].
        switches: this layer's, as of `suffix_attend`.
    """
    attended = suffix_attend(block.queries(x, rotation), *own, *prefix, block.scale, at, switches, positions)
    dropped = dropped_rows(switches.attention_output, positions.attention_output, at)
    x = x + drop(block.attention_output(attended), dropped)
    if visual is not None:
        attended = cross_attend(block.cross_queries(x), *visual, block.cross_scale, at, switches, positions)
        dropped = dropped_rows(switches.cross_output, positions.cross_output, at)
        x = x + drop(block.cross_output(attended), dropped)
    return x + drop(block.mlp_output(x), dropped_rows(switches.mlp_output, positions.mlp_output, at))


def answer_states(
    model: Any,
    base: BaseRun,
    trie: Trie,
    switches: Switches,
    positions: Positions,
    start: Int[Array, " batch"],
    length: Int[Array, " batch"],
    rows: int,
    prefix: int,
    answers: int,
) -> Float[Array, "batch end answer width"] | None:
    """The last block's output at the answer rows of a trie's ends; None where the trie does nothing.

    Args:
        answers: answer rows, the prompt's last position and those behind it.
    """
    if base.visual is None:
        refuse_cross_attention(switches)
    decoder = model.language_model
    block_of, stacked = split_blocks(decoder.layers)
    last_layer = decoder.config.layers - 1
    every_row = start[:, None] + jnp.arange(rows)
    rotation = decoder.rotation(every_row[:, None])

    def layer(x: Array, index: Any, members: Array, answer_only: bool = False) -> Array:
        """One block over all rows; of the last block only the answers' rows are needed, beside all keys and values."""
        block = block_of(layer_slice(stacked, index))
        on = layer_slice(switches, (members[None], index))
        own = block.keys_values(x, rotation)
        query_rows = every_row
        if answer_only:
            query_rows = length[:, None] - 1 + jnp.arange(answers)
            x = jax.vmap(lambda one, row: jax.lax.dynamic_slice_in_dim(one, row, answers, 1))(x, length - 1 - start)
        shared = base.key[index, ..., :prefix], base.value[index, :, :, :prefix]
        visual = None if base.visual is None else layer_slice(base.visual, index)
        at = Rows(query_rows, start, rows)
        query_rotation = decoder.rotation(query_rows[:, None])
        return recomputed_block(block, x, query_rotation, own, shared, visual, at, on, positions)

    def enter(x: Array | None, segment: Segment) -> Array:
        """The rows of a segment: each continues a row of the one before, or starts from the base run."""
        base_rows = rows_from(base.hidden[segment.start], start - base.first, rows)[:, None]
        known = base_rows if x is None else jnp.concatenate([base_rows, x], axis=1)
        return spread_rows(known[:, jnp.array(rows_per_device(segment.parents)) + 1])

    def run_layers(x: Array, start: int, stop: int, members: Array) -> Array:
        """Layers `start` to `stop - 1`, the last layer not among them."""
        if stop - start == 1:
            return layer(x, start, members)
        step = lambda x, index: (layer(x, index, members), None)  # noqa: E731
        return jax.lax.scan(step, x, jnp.arange(start, stop))[0]

    x: Array | None = None
    for segment in trie.segments:
        x, members = enter(x, segment), jnp.array(rows_per_device(segment.members))
        if segment.start < last_layer:
            x = run_layers(x, segment.start, min(segment.stop, last_layer), members)
        if segment.stop > last_layer:
            x = layer(x, last_layer, members, answer_only=True)
    return x


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
    x = answer_states(model, base, trie, switches, positions, start, length, rows, prefix, answers=1)
    return _at_ends(trie, base.logits, None if x is None else model.language_model.logits(x[:, :, 0]))


def drafted_pass(
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    draft: Int[Array, "batch step"],
    trie: Trie,
    switches: Switches,
    positions: Positions,
    start: Int[Array, " batch"],
    length: Int[Array, " batch"],
    rows: int,
    prefix: int,
) -> tuple[Float[Array, "batch config vocabulary"], Int[Array, "batch config step"]]:
    """As `suffix_pass`, with the base run's answers behind the prompts: (logits at the first answer position, the
    tokens that follow the prompt and every token of the draft but its last).

    Args:
        base: extended by the draft (`extend_base`).
        draft: tokens of the base answers. The last of them is not read.
        positions: with the generated positions; `start + rows` covers them.
    """
    model = nnx.merge(graphdef, params)
    answers = draft.shape[1]
    x = answer_states(model, base, trie, switches, positions, start, length, rows, prefix, answers)
    if x is None:
        return _at_ends(trie, base.logits, None), _at_ends(trie, draft, None)
    # One answer row after the other: the logits of all of them, for every configuration, would be large.
    first = model.language_model.logits(x[:, :, 0])
    following = jax.lax.map(lambda row: greedy_token(model.language_model.logits(row)), jnp.moveaxis(x[:, :, 1:], 2, 0))
    tokens = jnp.concatenate([greedy_token(first)[None], following]).astype(draft.dtype)
    return _at_ends(trie, base.logits, first), _at_ends(trie, draft, jnp.moveaxis(tokens, 0, 2))


def _at_ends(trie: Trie, base: Array, ends: Array | None) -> Array:
    """What the trie's ends have [batch, end, ...], for each of its configurations; the base run's for one that blocks
    nothing."""
    if ends is None:
        return jnp.broadcast_to(base[:, None], (len(base), len(trie.ends), *base.shape[1:]))
    return jnp.concatenate([base[:, None], ends], axis=1)[:, jnp.array(trie.ends) + 1]


def extend_base(base: BaseRun, hidden: Float[Array, "layer batch step width"], length: Array, rows: int) -> BaseRun:
    """The base run with the states of generated positions behind the prompts', its window `rows` rows long.

    Args:
        hidden: input of every layer at the positions `length`, `length + 1`, ...
        rows: static; the window covers these positions.
    """
    window = jnp.pad(base.hidden, ((0, 0), (0, 0), (0, rows - base.hidden.shape[2]), (0, 0)))
    put = lambda one, new, row: jax.lax.dynamic_update_slice_in_dim(one, new, row, axis=1)  # noqa: E731
    return base._replace(hidden=jax.vmap(put, (1, 1, 0), 1)(window, hidden.astype(window.dtype), length - base.first))
