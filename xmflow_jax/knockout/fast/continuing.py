"""Answers that departed from their draft, decoded on: each with its own configuration in force.

Departed answers are few, so they are not worth a trie. All configurations of a tile (`departed.py`) read the prompt's
prefix as one operand, as in the suffix passes. The rows of prompt and draft run once more, each slot's from the first
layer on that it blocks anything in, and leave keys and values; then come the tokens, one after the other, from the
first departure on, of all groups together: of half of the slots, until one of the other half has departed. Groups with
equally many rows, and both halves of the slots, take turns in one body of the program, which is what compiles.

Groups here are groups of configurations (`placement.Group`); those of blocks alike (`interfaces.BlockGroup`) are called
runs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.arrays import with_room
from xmflow_jax.knockout.fast.attention import Rows
from xmflow_jax.knockout.fast.departed import Tiles
from xmflow_jax.knockout.fast.departed_work import Cache, Shape, Work
from xmflow_jax.knockout.fast.recomputing import recompute_prompts
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.knockout.positions import ids_at
from xmflow_jax.nn.interfaces import KeysValues
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import (
    every_row,
    next_logits,
    own_keys_values,
)

# (step, tokens, cache) between two tokens.
State = tuple[Int[Array, ""], Int[Array, "group tile slot step"], Cache]


def continue_answers(
    net: Network,
    given: Given,
    starts: tuple[Int[Array, " batch"], ...],
    end_tokens: Int[Array, " end"],
    tiles: Tiles,
    first_layer: Int[Array, "group slot"],
    shape: Shape,
) -> Int[Array, "group tile slot step"]:
    """The whole answers of some tiles; places after the end hold an end token.

    Args:
        given: as for `passes.drafted_pass`.
        starts: of every group, the first recomputed row of each of the batch's prompts in the main stack.
        end_tokens: ids that end an answer.
        first_layer: no configuration of a slot blocks anything in the main stack before it.
        shape: static.
    """
    model, inputs = net.module(), given.batch.inputs[-1]
    added = model.added(len(model.stacks) - 1, inputs.tokens, given.base.features)
    mine = jax.tree.map(lambda leaf: jnp.asarray(leaf)[tiles.prompt], (inputs, given.positions, added))
    begin = jnp.stack([one[tiles.prompt] for one in starts])
    work = Work(model, given, tiles, first_layer, shape, begin, mine[0], with_room(mine[1], shape.longest), mine[2])
    slots, steps = tiles.tokens.shape[2:]
    half = max(1, slots // 2)

    def unfinished(state: State) -> Array:
        """Tokens are missing."""
        step, tokens, _ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=3)[..., 0]
        return (step < steps - 1) & ~jnp.all(jnp.isin(last, end_tokens) | (tiles.known == steps))

    def next_tokens(state: State) -> State:
        step, tokens, cache = state

        def some(part: Array, found: tuple[Array, Cache]) -> tuple[Array, Cache]:
            # Where slots do not divide, some of them get their token twice.
            return one_token(work, end_tokens, step, (jnp.minimum(part * half, slots - half), half), *found)

        # Slots stand in the order in which they departed.
        departed = jnp.any(tiles.known <= step + 1, axis=(0, 1))
        parts = -(-jnp.max(jnp.where(departed, jnp.arange(slots) + 1, 1)) // half)
        return step + 1, *jax.lax.fori_loop(0, parts, some, (tokens, cache))

    # Rows behind a departure hold the draft's tokens; they are overwritten before they are read.
    state: State = (jnp.min(tiles.known) - 1, jnp.asarray(tiles.tokens), recompute_prompts(work))
    return jax.lax.while_loop(unfinished, next_tokens, state)[1]


def one_token(
    work: Work,
    end_tokens: Int[Array, " end"],
    step: Int[Array, ""],
    some: tuple[Int[Array, ""], int],
    tokens: Int[Array, "group tile slot step"],
    cache: Cache,
) -> tuple[Int[Array, "group tile slot step"], Cache]:
    """The next token of some of each tile's slots.

    Args:
        some: (the first of these slots, how many they are).
    """
    place, slots = (work.inputs.length + step)[:, None], slots_of(some)
    mine, known, config = slots(tokens), slots(work.tiles.known), slots(work.tiles.config)
    token = jax.lax.dynamic_index_in_dim(mine, step, axis=3)
    x = work.stack.embed(token, ids_at(work.inputs, place)[:, None])
    rooms: list[KeysValues | None] = []
    for run, (blocks, room) in enumerate(zip(work.stack.groups, cache, strict=True)):
        layer = partial(token_layer, work, run, place, config, some)
        x, room = jax.lax.fori_loop(0, blocks.layers, layer, (x, room))
        rooms.append(room)
    following = greedy_token(next_logits(work.model, x[..., 0, :])).astype(tokens.dtype)
    following = jnp.where(jnp.isin(token[..., 0], end_tokens), end_tokens[0].astype(tokens.dtype), following)
    after = jax.lax.dynamic_index_in_dim(mine, step + 1, axis=3, keepdims=False)
    following = jnp.where(step + 1 < known, after, following)
    mine = jax.lax.dynamic_update_index_in_dim(mine, following, step + 1, axis=3)
    return jax.lax.dynamic_update_slice_in_dim(tokens, mine, some[0], axis=2), tuple(rooms)


def slots_of(some: tuple[Int[Array, ""], int]) -> Callable[[Any], Array]:
    """What takes some slots of an array [group, tile, slot, ...]."""
    first, count = some
    return lambda whole: jax.lax.dynamic_slice_in_dim(jnp.asarray(whole), first, count, axis=2)


def token_layer(
    work: Work,
    run: int,
    place: Int[Array, "tile 1"],
    config: Int[Array, "group tile slot"],
    some: tuple[Int[Array, ""], int],
    index: Array,
    state: tuple[Float[Array, "group tile slot 1 width"], KeysValues | None],
) -> tuple[Float[Array, "group tile slot 1 width"], KeysValues | None]:
    """A layer over a generated position of some slots.

    Args:
        config: of these slots.
        some: (the first of them, how many they are).
    """
    x, room = state
    groups, count, width = x.shape[:3]
    block, reads, rotation = work.stack.groups[run].block(index), work.reads(run, index), work.rotation(place)
    new = own_keys_values(block, x, rotation)
    read: KeysValues | None = None
    if room is not None and new is not None:
        row = jnp.broadcast_to((place - work.begin[..., None]), (groups, count, width))
        group, tile, slot = jnp.indices(row.shape, sparse=True)
        at = index, group, tile, slot + some[0], row
        key, value = (part.at[at].set(one[..., 0, :, :]) for part, one in zip(room, new, strict=True))
        slots = slots_of(some)
        room, read = (key, value), (slots(key[index]), slots(value[index]))

    def of_group(x: Array, begin: Array, config: Array, own: KeysValues | None) -> Array:
        at = Rows(place, begin, work.shape.longest)
        under = work.under(run, index, at, config)

        def rows(one: KeysValues) -> KeysValues:
            return one if own is None else own

        return block(x, rotation, under.attend(reads, rows), under.drop, every_row)

    return jax.vmap(of_group)(x, work.begin, config, read), room
