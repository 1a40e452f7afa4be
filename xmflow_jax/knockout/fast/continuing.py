"""Answers that departed from their draft, decoded on: each with its own configuration in force.

Departed answers are few, so they are not worth a trie. All configurations of a tile (`departed.py`) read the prompt's
prefix as one operand, as in the suffix passes. The rows of prompt and draft run once more, each slot's from the first
layer on that it blocks anything in, and leave keys and values; then come the tokens, one after the other, from the
first departure on, of all groups together: with half of the slots, until one of the other half has departed.

Groups here are groups of configurations (`placement.Group`); those of blocks alike (`interfaces.BlockGroup`) are called
runs.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.data.batch import StackInput
from xmflow_jax.knockout.arrays import Positions, with_room
from xmflow_jax.knockout.fast.attention import Reads, Rows, SharedKeys, Under
from xmflow_jax.knockout.fast.base_run import rows_from
from xmflow_jax.knockout.fast.departed import Tiles
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.knockout.positions import ids_at, real_positions, rotation_at, side_by_side
from xmflow_jax.nn.interfaces import Block, KeysValues, Model, Stack
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import (
    every_row,
    group_begins,
    layer_count,
    layers_before,
    next_logits,
    own_keys_values,
    reading_site,
)

Tree = Any

# Of each run of blocks, keys and values of tiles' own rows, from each tile's first row on [layer, group, tile, slot,
# row, kv_heads, head_width]; None for blocks that do not read their own stack.
Cache = tuple[KeysValues | None, ...]

# From so many rows on a matmul takes time by its rows; with fewer it is mostly the reading of weights.
MATMUL_ROWS: Final = 32

# (step, tokens, cache) between two tokens.
State = tuple[Int[Array, ""], Int[Array, "group tile slot step"], Cache]


class Shape(NamedTuple):
    """What is static of departed answers.

    Attributes:
        rows: of every group, as in its suffix pass.
        longest: so many rows cover the longest answer as well, in every group.
        prefix: the largest of all groups.
    """

    rows: tuple[int, ...]
    longest: int
    prefix: int


@dataclass(frozen=True)
class Work:
    """Departed answers while they are decoded on.

    Attributes:
        model: whose main stack decodes.
        given: as of the drafted passes.
        tiles: which answers.
        first_layer: no configuration of a slot blocks anything in the main stack before it.
        shape: static.
        begin: the first row of every tile in each group.
        inputs, positions: of the tiles' prompts.
        added: what blocks add at the positions of these prompts (`interfaces.Model.added`).
    """

    model: Model
    given: Given
    tiles: Tiles
    first_layer: Int[Array, "group slot"]
    shape: Shape
    begin: Int[Array, "group tile"]
    inputs: StackInput
    positions: Positions
    added: Float[Array, "tile position added"] | None

    @property
    def stack(self) -> Stack:
        """The main stack."""
        return self.model.stacks[-1]

    def of_prompts(self, leaf: Array, index: Any, axis: int) -> Array:
        """A layer of what the batch's prompts have, for the tiles. A single prompt's is not gathered: it is large.

        Args:
            axis: of the batch, in a layer.
        """
        mine, prompts = leaf[index], self.tiles.prompt
        return mine if mine.shape[axis] == len(prompts) == 1 else jnp.take(mine, prompts, axis)

    def keys_of_prompts(self, keys: SharedKeys, index: Any) -> SharedKeys:
        """A layer of the prompts' keys and values, for the tiles."""
        return SharedKeys(self.of_prompts(keys.key, index, 1), self.of_prompts(keys.value, index, 1))

    def base_rows(self, group: int, layer: Any) -> Float[Array, "tile 1 row width"]:
        """The base run's rows of prompt and draft, before a layer of the main stack."""
        window = self.given.base.first[-1][self.tiles.prompt]
        hidden = self.of_prompts(self.given.base.hidden[-1], layer, 0)
        return rows_from(hidden, self.begin[group] - window, self.shape.rows[group])[:, None]

    def rows(self, group: int) -> Rows:
        """A group's rows of prompt and draft."""
        start, count = self.begin[group], self.shape.rows[group]
        return Rows(start[:, None] + jnp.arange(count), start, count)

    def rotation(self, rows: Int[Array, "tile row"]) -> Tree:
        """Of some rows, for all slots of a tile alike."""
        return side_by_side(rotation_at(self.stack, self.inputs, rows, self.added))

    def reads(self, run: int, index: Any) -> Reads:
        """What all of a prompt's configurations read in a layer: of its prefix, and of its image."""
        own, outside = (of_groups[run] for of_groups in self.given.base.keys[-1])
        prefix, shared, real = None, None, None
        if own is not None:
            key, value = self.keys_of_prompts(own, index)
            prefix = SharedKeys(key[..., : self.shape.prefix], value[:, :, : self.shape.prefix])
        if outside is not None:
            shared = self.keys_of_prompts(outside, index)
            site = reading_site(self.stack.groups[run])
            assert site is not None, "it reads what is outside"
            known = real_positions(self.model, self.given.batch, site.reads)
            real = None if known is None else known[self.tiles.prompt]
        return Reads(prefix, shared, None, real)

    def under(self, run: int, index: Any, at: Rows, config: Int[Array, "tile slot"], positions: Positions) -> Under:
        """A layer's knockouts, of some configurations."""
        layer = layers_before(self.model, -1) + group_begins(self.stack)[run] + index
        return Under(at, self.inputs, layer_slice(self.given.switches, (config, layer)), positions)


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
    work = Work(model, given, tiles, first_layer, shape, begin, *mine)
    cache = recompute_prompts(work)
    slots, steps = tiles.tokens.shape[2:]
    # Some of so many rows of a group may lie behind the arrays' end, where there is nothing to block.
    roomy = with_room(work.positions, shape.longest)

    def unfinished(state: State, width: int) -> Array:
        """Tokens are missing, and no slot but the first `width` has departed yet."""
        step, tokens, _ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=3)[..., 0]
        ended = jnp.all(jnp.isin(last, end_tokens) | (tiles.known == steps))
        return (step < steps - 1) & ~ended & jnp.all(step + 1 < tiles.known[:, :, width:])

    # Rows behind a departure hold the draft's tokens; they are overwritten before they are read.
    state: State = (jnp.min(tiles.known) - 1, jnp.asarray(tiles.tokens), cache)
    for width in dict.fromkeys((max(1, slots // 2), slots)):
        one = partial(one_token, work, roomy, end_tokens, width)
        state = jax.lax.while_loop(partial(unfinished, width=width), one, state)
    return state[1]


def recompute_prompts(work: Work) -> Cache:
    """Keys and values of the rows of prompt and draft, of every slot."""
    tiles, shape, hidden = work.tiles, work.shape, work.given.base.hidden[-1]
    groups, count, slots = tiles.config.shape
    cache: list[KeysValues | None] = []
    xs = [jnp.zeros((count, slots, own, hidden.shape[3]), hidden.dtype) for own in shape.rows]
    last = layer_count(work.stack) - 1
    for run, (group_of_blocks, begin) in enumerate(zip(work.stack.groups, group_begins(work.stack), strict=True)):
        own = work.given.base.keys[-1].own[run]
        room: KeysValues | None = None
        if own is not None:
            _, kv_heads, _, _, width = own.value.shape
            size = (group_of_blocks.layers, groups, count, slots, shape.longest, kv_heads, width)
            room = (jnp.zeros(size, own.key.dtype), jnp.zeros(size, own.key.dtype))
        layers = min(group_of_blocks.layers, last - begin)
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
    for group, x in enumerate(xs):
        xs[group], room = recompute_group(work, (group, run), index, block, reads, x, room)
    return xs, room


def recompute_group(
    work: Work,
    place: tuple[int, int],
    index: Array,
    block: Block,
    reads: Reads,
    x: Float[Array, "tile slot row width"],
    room: KeysValues | None,
) -> tuple[Float[Array, "tile slot row width"], KeysValues | None]:
    """A layer over a group's rows of prompt and draft.

    Args:
        place: the numbers of the group and of the run.
    """
    (group, run), layer = place, group_begins(work.stack)[place[1]] + index
    at, first, config = work.rows(group), work.first_layer[group], jnp.asarray(work.tiles.config)[group]
    rotation, unchanged = work.rotation(at.query), work.base_rows(group, layer)
    count, slots = config.shape
    # Slots in the order in which they begin to differ, and as many of them at a time as make a large enough matmul.
    order = jnp.argsort(first)
    together = math.gcd(slots, max(1, MATMUL_ROWS // (count * at.rows)))

    def some_slots(number: Array, state: tuple[Array, KeysValues | None]) -> tuple[Array, KeysValues | None]:
        x, room = state
        chosen = jax.lax.dynamic_slice_in_dim(order, number * together, together)
        # Up to the first layer that it blocks anything in, a configuration has the base run's rows.
        query = jnp.where((first[chosen] < layer)[:, None, None], x[:, chosen], unchanged)
        under = work.under(run, index, at, config[:, chosen], work.positions)
        kept: list[KeysValues] = []

        def keep(own: KeysValues) -> KeysValues:
            kept.append(own)
            return own

        attend = under.attend(reads, keep)
        done = block(query, rotation, attend, under.drop, every_row)
        return x.at[:, chosen].set(done), put(room, kept[0] if kept else None, group, index, chosen, at.rows)

    alike = own_keys_values(block, unchanged, rotation)
    if alike is not None:
        key, value = (jnp.broadcast_to(part, (count, slots, *part.shape[2:])) for part in alike)
        room = put(room, (key, value), group, index, jnp.arange(slots), at.rows)
    steps = -(-jnp.sum(first <= layer) // together)
    return cast(tuple[Array, KeysValues | None], jax.lax.fori_loop(0, steps, some_slots, (x, room)))


def last_keys(work: Work, run: int, last: int, xs: list[Array], room: KeysValues | None) -> KeysValues | None:
    """Of the last block only keys and values are needed: what comes next is known."""
    index = last - group_begins(work.stack)[run]
    block = work.stack.groups[run].block(index)
    slots = work.tiles.config.shape[2]
    for group, x in enumerate(xs):
        query = jnp.where((work.first_layer[group] < last)[:, None, None], x, work.base_rows(group, last))
        new = own_keys_values(block, query, work.rotation(work.rows(group).query))
        room = put(room, new, group, index, jnp.arange(slots), work.shape.rows[group])
    return room


def put(
    room: KeysValues | None, new: KeysValues | None, group: int, index: Any, chosen: Array, rows: int
) -> KeysValues | None:
    """With keys and values of some slots' rows of prompt and draft."""
    if room is None or new is None:
        return room
    at = index, group, slice(None), chosen, slice(rows)
    key, value = (part.at[at].set(jnp.swapaxes(one, 0, 1)) for part, one in zip(room, new, strict=True))
    return key, value


def one_token(work: Work, positions: Positions, end_tokens: Int[Array, " end"], width: int, state: State) -> State:
    """The next token of each tile's first `width` slots."""
    step, tokens, cache = state
    place = (work.inputs.length + step)[:, None]
    token = jax.lax.dynamic_index_in_dim(tokens[:, :, :width], step, axis=3)
    x = work.stack.embed(token, ids_at(work.inputs, place)[:, None])
    rooms: list[KeysValues | None] = []
    for run, (blocks, room) in enumerate(zip(work.stack.groups, cache, strict=True)):
        layer = partial(token_layer, work, positions, run, place)
        x, room = jax.lax.fori_loop(0, blocks.layers, layer, (x, room))
        rooms.append(room)
    known = work.tiles.known[:, :, :width]
    following = greedy_token(next_logits(work.model, x[..., 0, :])).astype(tokens.dtype)
    following = jnp.where(jnp.isin(token[..., 0], end_tokens), end_tokens[0].astype(tokens.dtype), following)
    following = jnp.where(step + 1 < known, tokens[:, :, :width, step + 1], following)
    return step + 1, tokens.at[:, :, :width, step + 1].set(following), tuple(rooms)


def token_layer(
    work: Work,
    positions: Positions,
    run: int,
    place: Int[Array, "tile 1"],
    index: Array,
    state: tuple[Float[Array, "group tile slot 1 width"], KeysValues | None],
) -> tuple[Float[Array, "group tile slot 1 width"], KeysValues | None]:
    """A layer over a generated position of every slot."""
    x, room = state
    groups, count, width = x.shape[:3]
    block, reads, rotation = work.stack.groups[run].block(index), work.reads(run, index), work.rotation(place)
    new = own_keys_values(block, x, rotation)
    read: KeysValues | None = None
    if room is not None and new is not None:
        row = jnp.broadcast_to((place - work.begin[..., None]), (groups, count, width))
        at = (index, *jnp.indices(row.shape, sparse=True), row)
        key, value = (part.at[at].set(one[..., 0, :, :]) for part, one in zip(room, new, strict=True))
        room, read = (key, value), (key[index, :, :, :width], value[index, :, :, :width])

    def of_group(x: Array, begin: Array, config: Array, own: KeysValues | None) -> Array:
        at = Rows(place, begin, work.shape.longest)
        under = work.under(run, index, at, config, positions)

        def rows(one: KeysValues) -> KeysValues:
            return one if own is None else own

        return block(x, rotation, under.attend(reads, rows), under.drop, every_row)

    return jax.vmap(of_group)(x, work.begin, jnp.asarray(work.tiles.config)[:, :, :width], read), room
