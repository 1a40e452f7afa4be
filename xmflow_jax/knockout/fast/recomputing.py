"""Keys and values of departed answers' rows of prompt and draft: once more, each from its own first layer on."""

import math
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.fast.attention import Reads
from xmflow_jax.knockout.fast.departed_work import Alike, Cache, Work
from xmflow_jax.nn.interfaces import Block, KeysValues
from xmflow_jax.nn.stacks import (
    every_row,
    group_begins,
    layer_count,
    own_keys_values,
)

# From so many rows on a matmul takes time by its rows; with fewer it is mostly the reading of weights.
MATMUL_ROWS: Final = 32


def recompute_prompts(work: Work) -> Cache:
    """Keys and values of the rows of prompt and draft, of every slot."""
    tiles, shape, hidden = work.tiles, work.shape, work.given.base.hidden[-1]
    groups, count, slots = tiles.config.shape
    cache: list[KeysValues | None] = []
    xs = [jnp.zeros((len(one.groups), count, slots, one.rows, hidden.shape[3]), hidden.dtype) for one in work.alike]
    last = layer_count(work.stack) - 1
    for run, (group_of_blocks, begin) in enumerate(zip(work.stack.groups, group_begins(work.stack), strict=True)):
        own = work.given.base.keys[-1].own[run]
        room: KeysValues | None = None
        if own is not None:
            _, kv_heads, _, _, width = own.value.shape
            size = (group_of_blocks.layers, groups, count, slots, shape.longest, kv_heads, width)
            room = (jnp.zeros(size, own.key.dtype), jnp.zeros(size, own.key.dtype))
        layers = min(group_of_blocks.layers, last - begin)
        if layers:
            step = partial(recompute_layer, work, run)
            xs, room = jax.lax.fori_loop(0, layers, step, (xs, room))
        if begin + group_of_blocks.layers > last:
            room = last_keys(work, run, last, xs, room)
        cache.append(room)
    return tuple(cache)


def recompute_layer(
    work: Work, run: int, index: Array, state: tuple[list[Array], KeysValues | None]
) -> tuple[list[Array], KeysValues | None]:
    """A layer, weights and prefix of which all groups share."""
    xs, room = [*state[0]], state[1]
    block, reads = work.stack.groups[run].block(index), work.reads(run, index)
    for number, own in enumerate(work.alike):
        member = partial(recompute_group, work, own, (run, index), block, reads)
        xs[number], room = jax.lax.fori_loop(0, len(own.groups), member, (xs[number], room))
    return xs, room


def recompute_group(
    work: Work,
    alike: Alike,
    place: tuple[int, Array],
    block: Block,
    reads: Reads,
    member: Int[Array, ""],
    state: tuple[Float[Array, "member tile slot row width"], KeysValues | None],
) -> tuple[Float[Array, "member tile slot row width"], KeysValues | None]:
    """A layer over the rows of prompt and draft of a group, one of several with equally many.

    Args:
        place: the number of the run, and of the layer within it.
        member: which of these groups.
    """
    (run, index), rows, (xs, room) = place, alike.rows, state
    group, x, layer = alike.groups[member], xs[member], group_begins(work.stack)[run] + index
    at, first, config = work.rows(group, rows), work.first_layer[group], jnp.asarray(work.tiles.config)[group]
    rotation, unchanged = work.rotation(at.query), work.base_rows(group, layer, rows)
    count, slots = config.shape
    # Slots in the order in which they begin to differ, and as many of them at a time as make a large enough matmul.
    order = jnp.argsort(first)
    together = math.gcd(slots, max(1, MATMUL_ROWS // (count * at.rows)))

    def some_slots(number: Array, state: tuple[Array, KeysValues | None]) -> tuple[Array, KeysValues | None]:
        x, room = state
        chosen = jax.lax.dynamic_slice_in_dim(order, number * together, together)
        # Up to the first layer that it blocks anything in, a configuration has the base run's rows.
        query = jnp.where((first[chosen] < layer)[:, None, None], x[:, chosen], unchanged)
        under = work.under(run, index, at, config[:, chosen])
        kept: list[KeysValues] = []

        def keep(own: KeysValues) -> KeysValues:
            kept.append(own)
            return own

        attend = under.attend(reads, keep)
        done = block(query, rotation, attend, under.drop, every_row)
        return x.at[:, chosen].set(done), put(room, kept[0] if kept else None, group, index, chosen, at.rows)

    keys = own_keys_values(block, unchanged, rotation)
    if keys is not None:
        key, value = (jnp.broadcast_to(part, (count, slots, *part.shape[2:])) for part in keys)
        room = put(room, (key, value), group, index, jnp.arange(slots), at.rows)
    steps = -(-jnp.sum(first <= layer) // together)
    x, room = jax.lax.fori_loop(0, steps, some_slots, (x, room))
    return xs.at[member].set(x), room


def last_keys(work: Work, run: int, last: int, xs: list[Array], room: KeysValues | None) -> KeysValues | None:
    """Of the last block only keys and values are needed: what comes next is known."""
    index = last - group_begins(work.stack)[run]
    block = work.stack.groups[run].block(index)
    slots = jnp.arange(work.tiles.config.shape[2])

    def keys_of(own: Alike, x: Array, member: Array, room: KeysValues | None) -> KeysValues | None:
        group = own.groups[member]
        begun = (work.first_layer[group] < last)[:, None, None]
        query = jnp.where(begun, x[member], work.base_rows(group, last, own.rows))
        new = own_keys_values(block, query, work.rotation(work.rows(group, own.rows).query))
        return put(room, new, group, index, slots, own.rows)

    for x, alike in zip(xs, work.alike, strict=True):
        room = jax.lax.fori_loop(0, len(alike.groups), partial(keys_of, alike, x), room)
    return room


def put(
    room: KeysValues | None, new: KeysValues | None, group: Any, index: Any, chosen: Array, rows: int
) -> KeysValues | None:
    """With keys and values of some slots' rows of prompt and draft."""
    if room is None or new is None:
        return room
    at = index, group, slice(None), chosen, slice(rows)
    key, value = (part.at[at].set(jnp.swapaxes(one, 0, 1)) for part, one in zip(room, new, strict=True))
    return key, value
