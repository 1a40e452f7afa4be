"""One stack of a suffix pass: layer after layer over the lanes of a group (`schedule.py`), some lanes at a time.

How often a layer runs is data, so the program is as small for many layers and configurations as for few.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.knockout.arrays import Positions, Switches
from xmflow_jax.knockout.fast.attention import Reads, Rows, SharedKeys, Under
from xmflow_jax.knockout.fast.base_run import BaseRun, StackKeys, rows_from
from xmflow_jax.knockout.fast.placement import Extent, Schedule
from xmflow_jax.knockout.fast.schedule import BASE
from xmflow_jax.knockout.positions import real_positions, rotation_at, side_by_side
from xmflow_jax.machine.passes import spread_lanes
from xmflow_jax.nn.interfaces import Block, Model, ReadingBlock
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.stacks import (
    group_begins,
    group_ranges,
    layer_count,
    reading_site,
    stack_name,
)

Tree = Any


class Given(NamedTuple):
    """What every suffix pass of a study on a batch is given.

    Attributes:
        base: the base run of the batch.
        batch: prompts, as the base run had them.
        switches: the whole study's.
        positions: of the batch.
    """

    base: BaseRun
    batch: Batch
    switches: Switches
    positions: Positions


# States of every lane at the rows that change, runs of lanes first, since a run is read and written where it lies.
Lanes = Float[Array, "run batch together row width"]


@dataclass(frozen=True)
class StackPass:
    """One stack of a suffix pass.

    Attributes:
        model: whose stack it is.
        number: of the stack.
        begin: the number of its first layer, through all stacks.
        given: of the pass.
        schedule: which lanes run in every layer, through all stacks.
        extent: its rows.
        start: first row of each prompt.
        left: what changed stacks before it left [batch, lane, position, width], by their numbers.
    """

    model: Model
    number: int
    begin: int
    given: Given
    schedule: Schedule
    extent: Extent
    start: Int[Array, " batch"]
    left: dict[int, Array]

    @property
    def inputs(self) -> StackInput:
        """Of the stack."""
        return self.given.batch.inputs[self.number]

    @property
    def keys(self) -> StackKeys:
        """The base run's, of the stack."""
        return self.given.base.keys[self.number]

    @property
    def every_row(self) -> Int[Array, "batch row"]:
        """Absolute positions of the rows."""
        return self.start[:, None] + jnp.arange(self.extent.rows)

    def run(self, x: Lanes, stop: int) -> Lanes:
        """The first `stop` layers of the stack over all rows."""
        for group, first, last in group_ranges(self.model.stacks[self.number], 0, stop):
            x = jax.lax.fori_loop(first, last, partial(self._layer, group), x)
        return x

    def _layer(self, group: int, index: Any, x: Lanes) -> Lanes:
        """A layer over its lanes, some at a time."""
        stack = self.model.stacks[self.number]
        layer = group_begins(stack, self.begin)[group] + index
        x = self.moved(x, layer)
        step = self._step(stack.groups[group].block(index), group, index)

        def some(run: Array, x: Lanes) -> Lanes:
            return jax.lax.dynamic_update_index_in_dim(x, step(run_of(x, run), run), run, axis=0)

        return jax.lax.fori_loop(0, self.schedule.runs[layer], some, x)

    def answer(self, x: Lanes, answers: int) -> Float[Array, "batch lane answer width"]:
        """The last layer, of which only the answers' rows are needed, beside all keys and values."""
        stack, last = self.model.stacks[self.number], layer_count(self.model.stacks[self.number]) - 1
        ((group, index, _),) = group_ranges(stack, last, last + 1)
        x = self.moved(x, self.begin + last)
        step = self._step(stack.groups[group].block(index), group, index, answers)

        def some(run: Array, found: Array) -> Array:
            return jax.lax.dynamic_update_index_in_dim(found, step(run_of(x, run), run), run, axis=0)

        none = jnp.zeros((*x.shape[:3], answers, x.shape[4]), x.dtype)
        return by_lane(jax.lax.fori_loop(0, self.schedule.runs[self.begin + last], some, none))

    def moved(self, x: Lanes, layer: Any) -> Lanes:
        """Every lane with the states that it continues."""

        def move(x: Lanes) -> Lanes:
            runs, _, together = x.shape[:3]
            chosen = by_lane(x)[:, self.schedule.sources[layer].reshape(-1)]
            return spread_lanes(jnp.moveaxis(chosen.reshape(len(chosen), runs, together, *x.shape[3:]), 1, 0))

        return jax.lax.cond(jnp.asarray(self.schedule.moved)[layer], move, lambda x: x, x)

    def _step(
        self, block: Block, group: int, index: Any, answers: int = 0
    ) -> Callable[[Float[Array, "batch together row width"], Array], Array]:
        """What a layer does to a run of lanes.

        Args:
            answers: so many rows are wanted; 0: all of them.
        """
        stack, length = self.model.stacks[self.number], self.inputs.length
        layer = group_begins(stack, self.begin)[group] + index
        added = self.model.added(self.number, self.inputs.tokens, self.given.base.features)
        rotation = side_by_side(rotation_at(stack, self.inputs, self.every_row, added))
        query_rows = length[:, None] - 1 + jnp.arange(answers) if answers else self.every_row
        at = Rows(query_rows, self.start, self.extent.rows)
        hidden = self.given.base.hidden[self.number][layer - self.begin]
        base_rows = rows_from(hidden, self.start - self.given.base.first[self.number], self.extent.rows)[:, None]
        reads, schedule = self.reads(group, index), jax.tree.map(jnp.asarray, self.schedule)

        def wanted(part: Array) -> Array:
            """Hidden states are [batch, lane, row, ...], rotations [batch, 1, row, ...]."""
            take = jax.vmap(lambda one, row: jax.lax.dynamic_slice_in_dim(one, row, answers, 1))
            taken: Array = take(part, length - 1 - self.start) if answers else part
            return taken

        def step(x: Array, run: Array) -> Array:
            begins, members = schedule.sources[layer, run] == BASE, schedule.members[layer, run]
            on = layer_slice(self.given.switches, (members[None], layer))
            under = Under(at, self.inputs, on, self.given.positions)
            x = jnp.where(begins[:, None, None], base_rows, x)
            attend = under.attend(self.with_left(reads, block, group, members))
            return block(x, rotation, attend, under.drop, wanted)

        return step

    def reads(self, group: int, index: Any) -> Reads:
        """What a layer's rows read beside themselves in every lane alike."""
        own, outside = self.keys.own[group], self.keys.outside[group]
        prefix = None
        if own is not None:
            prefix = SharedKeys(own.key[index, ..., : self.extent.prefix], own.value[index, :, :, : self.extent.prefix])
        site = reading_site(self.model.stacks[self.number].groups[group])
        if site is None:
            return Reads(prefix)
        real = real_positions(self.model, self.given.batch, site.reads)
        return Reads(prefix, layer_slice(outside, index), None, real)

    def with_left(self, reads: Reads, block: Block, group: int, members: Int[Array, " together"]) -> Reads:
        """The same with keys and values of what an earlier stack left, where that differs by lane."""
        site = reading_site(self.model.stacks[self.number].groups[group])
        names = [stack_name(stack) for stack in self.model.stacks]
        number = names.index(site.reads) if site is not None and site.reads in names else None
        if number not in self.left:
            return reads
        lanes = jnp.asarray(self.schedule.ends)[number, members]
        rows = cast(ReadingBlock, block).read(self.left[number][:, lanes])
        return reads._replace(outside=None, outside_rows=rows)


def run_of(x: Lanes, run: Array) -> Float[Array, "batch together row width"]:
    """One run's lanes."""
    return cast(Array, jax.lax.dynamic_index_in_dim(x, run, axis=0, keepdims=False))


def by_lane(x: Shaped[Array, "run batch together *rest"]) -> Shaped[Array, "batch lane *rest"]:
    """The lanes of all runs, one behind the other."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])
