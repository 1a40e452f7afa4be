"""Answers that departed from their draft, decoded on: each with its own configuration in force.

Departed answers are few, so they are not worth a trie. All configurations of a tile (`tiles.py`) read the prompt's
prefix as one operand, as in the suffix passes. The rows of prompt and draft run once more, each slot's from the first
layer on that it blocks anything in, and leave keys and values; then come the tokens, one after the other, from the
first departure on, of all groups together: with half of the slots, until one of the other half has departed.
"""

import math
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.arrays import Positions, Switches, with_room
from xmflow_jax.knockout.fast.attention import Rows
from xmflow_jax.knockout.fast.departed import Tiles
from xmflow_jax.knockout.fast.passes import BaseRun, recomputed_block, rows_from
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.nn.layers import layer_slice, split_blocks

Tree = Any

# Keys and values of tiles' own rows, from each tile's first row on.
Cache = tuple[
    Float[Array, "layer group tile slot row kv_heads head_width"],
    Float[Array, "layer group tile slot row kv_heads head_width"],
]

# From so many rows on a matmul takes time by its rows; with fewer it is mostly the reading of weights.
MATMUL_ROWS: Final = 32

# (step, tokens, cache) between two tokens.
State = tuple[Int[Array, ""], Int[Array, "group tile slot step"], Cache]


def continue_answers(
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    switches: Switches,
    positions: Positions,
    start: tuple[Int[Array, " batch"], ...],
    length: Int[Array, " batch"],
    end_tokens: Int[Array, " end"],
    tiles: Tiles,
    first_layer: Int[Array, "group slot"],
    rows: tuple[int, ...],
    longest: int,
    prefix: int,
) -> Int[Array, "group tile slot step"]:
    """The whole answers of some tiles; places after the end hold an end token.

    Args:
        base: as for `drafted_pass`, and likewise switches and positions.
        start: of every group, the first recomputed row of each of the batch's prompts.
        length: of the batch's prompts.
        first_layer: no configuration of a slot blocks anything before it.
        rows: static; of every group, as for `drafted_pass`.
        longest: static; so many rows cover the longest answer as well, in every group.
        prefix: static; the largest of all groups.
    """
    model = nnx.merge(graphdef, params)
    decoder = model.language_model
    block_of, stacked = split_blocks(decoder.layers)
    layers, steps = decoder.config.layers, tiles.tokens.shape[3]
    kv_heads, width = base.value.shape[2], base.value.shape[4]
    groups, count, slots = tiles.config.shape
    until, window = length[tiles.prompt], base.first[tiles.prompt]
    begin = jnp.stack([one[tiles.prompt] for one in start])
    mine = jax.tree.map(lambda leaf: jnp.asarray(leaf)[tiles.prompt], positions)

    def of_prompts(leaf: Array, index: Any) -> Array:
        """A layer of what the batch's prompts have, for the tiles. A single prompt's is not gathered: it is large."""
        own: Array = leaf[index] if leaf.shape[1] == count == 1 else leaf[index, tiles.prompt]
        return own

    def shared(index: Array) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
        """What all of a prompt's configurations read in a layer: of its prefix, and of its image."""
        before = of_prompts(base.key, index)[..., :prefix], of_prompts(base.value, index)[:, :, :prefix]
        return before, jax.tree.map(lambda leaf: of_prompts(leaf, index), base.visual)

    def base_rows(group: int, index: Any) -> Array:
        """The base run's rows of prompt and draft, before a layer [tile, 1, row, width]."""
        return rows_from(of_prompts(base.hidden, index), begin[group] - window, rows[group])[:, None]

    def put(cache: Cache, new: tuple[Array, ...], group: int, index: Any, chosen: Array) -> Cache:
        """With keys and values of some slots' rows of prompt and draft."""
        at = index, group, slice(None), chosen, slice(rows[group])
        key, value = (part.at[at].set(jnp.swapaxes(one, 0, 1)) for part, one in zip(cache, new, strict=True))
        return key, value

    def recompute(
        group: int, index: Array, block: Any, read: tuple[Any, Any], x: Array, cache: Cache
    ) -> tuple[Array, Cache]:
        """A layer over a group's rows of prompt and draft [tile, slot, row, width]."""
        at, first = row_of[group], first_layer[group]
        rotation, unchanged = decoder.rotation(at.query[:, None]), base_rows(group, index)
        # Slots in the order in which they begin to differ, and as many of them at a time as make a large enough matmul.
        order = jnp.argsort(first)
        together = math.gcd(slots, max(1, MATMUL_ROWS // (count * at.rows)))

        def some_slots(place: Array, state: tuple[Array, Cache]) -> tuple[Array, Cache]:
            x, cache = state
            chosen = jax.lax.dynamic_slice_in_dim(order, place * together, together)
            # Up to the first layer that it blocks anything in, a configuration has the base run's rows.
            query = jnp.where((first[chosen] < index)[:, None, None], x[:, chosen], unchanged)
            own = block.keys_values(query, rotation)
            on = layer_slice(switches, (tiles.config[group][:, chosen], index))
            done = recomputed_block(block, query, rotation, own, *read, at, on, mine)
            return x.at[:, chosen].set(done), put(cache, own, group, index, chosen)

        new = block.keys_values(unchanged, rotation)
        alike = tuple(jnp.broadcast_to(part, (count, slots, *part.shape[2:])) for part in new)
        steps = -(-jnp.sum(first <= index) // together)
        return jax.lax.fori_loop(0, steps, some_slots, (x, put(cache, alike, group, index, jnp.arange(slots))))

    def recompute_all(index: Array, state: tuple[list[Array], Cache]) -> tuple[list[Array], Cache]:
        """A layer, weights and prefix of which all groups share."""
        xs, cache = [*state[0]], state[1]
        block, read = block_of(layer_slice(stacked, index)), shared(index)
        for group, x in enumerate(xs):
            xs[group], cache = recompute(group, index, block, read, x, cache)
        return xs, cache

    row_of = [Rows(one[:, None] + jnp.arange(own), one, own) for one, own in zip(begin, rows, strict=True)]
    empty = jnp.zeros((layers, groups, count, slots, longest, kv_heads, width), base.key.dtype)
    start_rows = [jnp.zeros((count, slots, own, base.hidden.shape[3]), base.hidden.dtype) for own in rows]
    last, cache = layers - 1, (empty, empty)
    reached, cache = jax.lax.fori_loop(0, last, recompute_all, (start_rows, cache))
    for group, x in enumerate(reached):
        # Of the last block only keys and values are needed: what comes next is known.
        query = jnp.where((first_layer[group] < last)[:, None, None], x, base_rows(group, last))
        rotation = decoder.rotation(row_of[group].query[:, None])
        new = block_of(layer_slice(stacked, last)).keys_values(query, rotation)
        cache = put(cache, new, group, last, jnp.arange(slots))
    # Some of so many rows of a group may lie behind the arrays' end, where there is nothing to block.
    roomy = with_room(mine, longest)

    def one_token(state: State, width: int) -> State:
        """The next token of each tile's first `width` slots."""
        step, tokens, cache = state
        place = (until + step)[:, None]
        token = jax.lax.dynamic_index_in_dim(tokens[:, :, :width], step, axis=3)
        rotation = decoder.rotation(place[:, None])

        def layer(index: Array, state: tuple[Array, Cache]) -> tuple[Array, Cache]:
            x, cache = state
            block = block_of(layer_slice(stacked, index))
            before, visual = shared(index)
            row = jnp.broadcast_to((place - begin[..., None]), (groups, count, width))
            at = (index, *jnp.indices(row.shape, sparse=True), row)
            new = block.keys_values(x, rotation)
            key, value = (part.at[at].set(one[..., 0, :, :]) for part, one in zip(cache, new, strict=True))

            def of_group(x: Array, begin: Array, config: Array, own: tuple[Array, Array]) -> Array:
                on = layer_slice(switches, (config, index))
                at = Rows(place, begin, longest)
                return recomputed_block(block, x, rotation, own, before, visual, at, on, roomy)

            read = key[index, :, :, :width], value[index, :, :, :width]
            config = jnp.asarray(tiles.config)[:, :, :width]
            return jax.vmap(of_group)(x, begin, config, read), (key, value)

        x = decoder.embed(token, place[:, None])
        x, cache = jax.lax.fori_loop(0, layers, layer, (x, cache))
        following = greedy_token(decoder.logits(x[..., 0, :])).astype(tokens.dtype)
        following = jnp.where(jnp.isin(token[..., 0], end_tokens), end_tokens[0].astype(tokens.dtype), following)
        following = jnp.where(step + 1 < tiles.known[:, :, :width], tokens[:, :, :width, step + 1], following)
        return step + 1, tokens.at[:, :, :width, step + 1].set(following), cache

    def unfinished(state: State, width: int) -> Array:
        """Tokens are missing, and no slot but the first `width` has departed yet."""
        step, tokens, _ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=3)[..., 0]
        ended = jnp.all(jnp.isin(last, end_tokens) | (tiles.known == steps))
        return (step < steps - 1) & ~ended & jnp.all(step + 1 < tiles.known[:, :, width:])

    # Rows behind a departure hold the draft's tokens; they are overwritten before they are read.
    state: State = (jnp.min(tiles.known) - 1, jnp.asarray(tiles.tokens), cache)
    for width in dict.fromkeys((max(1, slots // 2), slots)):
        state = jax.lax.while_loop(partial(unfinished, width=width), partial(one_token, width=width), state)
    return state[1]
