"""Answers that departed from their draft, decoded on: each with its own configuration in force.

Departed answers are few, so they are not worth a trie. All configurations of a tile (`tiles.py`) read the prompt's
prefix as one operand, as in the suffix passes. The rows of prompt and draft run once more, slot by slot, each from the
first layer that it blocks anything in, and leave keys and values; then come the tokens, one after the other, from the
first departure on, of all tiles of all groups together.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.arrays import Positions, Switches, with_room
from xmflow_jax.knockout.suffix import BaseRun, recomputed_block, rows_from
from xmflow_jax.knockout.suffix_attention import Rows
from xmflow_jax.knockout.tiles import Tiles
from xmflow_jax.models.layers import layer_slice, split_blocks

Tree = Any

# Keys and values of tiles' own rows, from each tile's first row on.
Cache = tuple[
    Float[Array, "layer tile slot row kv_heads head_width"], Float[Array, "layer tile slot row kv_heads head_width"]
]


def continue_answers(
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    switches: Switches,
    positions: Positions,
    start: tuple[Int[Array, " batch"], ...],
    length: Int[Array, " batch"],
    end_tokens: Int[Array, " end"],
    tiles: tuple[Tiles, ...],
    first_layer: Int[Array, "group slot"],
    rows: tuple[int, ...],
    longest: int,
    prefix: tuple[int, ...],
) -> tuple[Int[Array, "tile slot step"], ...]:
    """The whole answers of some tiles of every group; places after the end hold an end token.

    Args:
        base: as for `drafted_pass`, and likewise switches and positions.
        start: of every group, the first recomputed row of each of the batch's prompts.
        length: of the batch's prompts.
        tiles: of every group, all of the same shape.
        first_layer: no configuration of a slot blocks anything before it.
        rows, prefix: static; of every group, as for `drafted_pass`.
        longest: static; so many rows cover the longest answer as well, in every group.
    """
    model = nnx.merge(graphdef, params)
    decoder = model.language_model
    block_of, stacked = split_blocks(decoder.layers)
    layers, steps = decoder.config.layers, tiles[0].tokens.shape[2]
    kv_heads, width = base.key.shape[2], base.key.shape[4]
    positions = jax.tree.map(jnp.asarray, positions)

    def advance(
        x: Array, index: Array, own: tuple[Array, Array], at: Rows, some: Tiles, mine: Positions, prefix: int
    ) -> Array:
        """One block over query rows whose keys and values are among `own`, the tiles' rows."""
        shared = base.key[index][some.prompt, :, :prefix], base.value[index][some.prompt, :, :prefix]
        visual = None
        if base.visual is not None:
            visual = jax.tree.map(lambda leaf: leaf[some.prompt], layer_slice(base.visual, index))
        on = layer_slice(switches, (some.config, index))
        rotation = decoder.rotation(at.query[:, None])
        block = block_of(layer_slice(stacked, index))
        return recomputed_block(block, x, rotation, own, shared, visual, at, on, mine)

    def recompute(some: Tiles, start: Array, first_layer: Array, rows: int, prefix: int) -> Cache:
        """Keys and values of the rows of prompt and draft, of all slots."""
        begin, window = start[some.prompt], base.first[some.prompt]
        mine = jax.tree.map(lambda leaf: leaf[some.prompt], positions)
        at = Rows(begin[:, None] + jnp.arange(rows), begin, rows)
        rotation = decoder.rotation(at.query[:, None])

        def keys_values(x: Array, index: Any) -> tuple[Array, Array]:
            key, value = block_of(layer_slice(stacked, index)).keys_values(x, rotation)
            return key, value

        def base_rows(index: Array) -> Array:
            """A layer's input in the base run [tile, 1, row, width]."""
            return rows_from(base.hidden[index][some.prompt], begin - window, rows)[:, None]

        def one_slot(slot: Array, cache: Cache) -> Cache:
            config: Any = jax.lax.dynamic_slice_in_dim(jnp.asarray(some.config), slot, 1, axis=1)
            of_slot = some._replace(config=config)

            def put(cache: Cache, index: Any, own: tuple[Array, Array]) -> Cache:
                at = index, slice(None), slot, slice(rows)
                key, value = (part.at[at].set(new[:, 0]) for part, new in zip(cache, own, strict=True))
                return key, value

            def layer(index: Array, state: tuple[Array, Cache]) -> tuple[Array, Cache]:
                x, cache = state
                own = keys_values(x, index)
                return advance(x, index, own, at, of_slot, mine, prefix), put(cache, index, own)

            first = first_layer[slot]
            x, cache = jax.lax.fori_loop(first, layers - 1, layer, (base_rows(first), cache))
            # Of the last block only keys and values are needed: what comes next is known.
            return put(cache, layers - 1, keys_values(x, layers - 1))

        # Before its first blocked layer, a configuration has the base run's.
        unchanged = jax.lax.map(lambda index: keys_values(base_rows(index), index), jnp.arange(layers))
        empty = jnp.zeros((layers, *some.config.shape, longest, kv_heads, width), base.key.dtype)
        key, value = (empty.at[:, :, :, :rows].set(part) for part in unchanged)
        return jax.lax.fori_loop(0, some.config.shape[1], one_slot, (key, value))

    caches = [recompute(*own) for own in zip(tiles, start, first_layer, rows, prefix, strict=True)]
    cache = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *caches)
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *tiles)
    begin = jnp.concatenate([one[some.prompt] for one, some in zip(start, tiles, strict=True)])
    until = length[whole.prompt]
    count, slots = whole.config.shape
    # Some of so many rows of a group may lie behind the arrays' end, where there is nothing to block.
    mine = with_room(jax.tree.map(lambda leaf: leaf[whole.prompt], positions), longest)

    def one_token(state: tuple[Array, Array, Cache]) -> tuple[Array, Array, Cache]:
        step, tokens, cache = state
        place = (until + step)[:, None]
        token = jax.lax.dynamic_index_in_dim(tokens, step, axis=2)
        rotation = decoder.rotation(place[:, None])

        def layer(index: Array, state: tuple[Array, Cache]) -> tuple[Array, Cache]:
            x, cache = state
            new = block_of(layer_slice(stacked, index)).keys_values(x, rotation)
            at = index, jnp.arange(count)[:, None], jnp.arange(slots), place - begin[:, None]
            key, value = (part.at[at].set(one[:, :, 0]) for part, one in zip(cache, new, strict=True))
            own = Rows(place, begin, longest)
            return advance(x, index, (key[index], value[index]), own, whole, mine, max(prefix)), (key, value)

        x = decoder.embed(token, place[:, None])
        x, cache = jax.lax.fori_loop(0, layers, layer, (x, cache))
        following = jnp.argmax(decoder.logits(x[:, :, 0]), axis=-1).astype(tokens.dtype)
        following = jnp.where(jnp.isin(token[..., 0], end_tokens), end_tokens[0].astype(tokens.dtype), following)
        following = jnp.where(step + 1 < whole.known, tokens[:, :, step + 1], following)
        return step + 1, tokens.at[:, :, step + 1].set(following), cache

    def unfinished(state: tuple[Array, Array, Cache]) -> Array:
        step, tokens, _ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=2)[..., 0]
        return (step < steps - 1) & ~jnp.all(jnp.isin(last, end_tokens) | (whole.known == steps))

    # Rows behind a departure hold the draft's tokens; they are overwritten before they are read.
    departed = jnp.min(whole.known) - 1
    answers = jax.lax.while_loop(unfinished, one_token, (departed, jnp.asarray(whole.tokens), cache))[1]
    return tuple(jnp.split(answers, len(tiles)))
