"""Which rows of which prompts each configuration needs: a study's tries placed on one batch of prompts.

Configurations that aim at the same roles start at the same position of a prompt, so they form one group: the three
pathways to `Last` recompute one row, the three to `Question` the question and what follows. A group is one compiled
program for each pair of (suffix rows, prefix positions), both rounded up so that a study compiles a handful of them.

Where positions see each other (`nn.visibility`), a change reaches back to the first position of the block that holds
it, and where a model has several stacks, a change in one of them reaches all that a later one reads of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.knockout.arrays import Positions
from xmflow_jax.knockout.fast.reach import Reach, Rows, first_rows, reaches, stack_of
from xmflow_jax.knockout.fast.schedule import BASE, Trie, build_trie, lanes_together
from xmflow_jax.knockout.kinds.kind import Action
from xmflow_jax.knockout.study import Study
from xmflow_jax.machine.partitioning import CONFIGURATIONS, DATA, mesh_size
from xmflow_jax.nn.anatomy import Anatomy

# Suffix rows are rounded up to these: few ones finely, since what is added is computed by every lane. One row stays one
# row.
ROW_STEP = 4
MANY_ROWS = 64
MANY_ROWS_STEP = 16
# Prefix positions, and rows that the base run keeps, are rounded up to this.
PREFIX_STEP = 16


def run_overhead(platform: str) -> int:
    """A run of lanes takes as long as its rows and about so many more: kernels are started and weights read for it."""
    return 8 if platform == "cpu" else 256


@lru_cache(maxsize=64)
def group_tries(
    study: Study, possible: frozenset[Action], shortened: frozenset[Action]
) -> tuple[tuple[tuple[Reach, ...], Trie], ...]:
    """The study's configurations grouped by where they start: (what the group does, its trie).

    Args:
        possible: actions that can change something; the others are left out, and a configuration without any is the
            base run and in no group.
        shortened: actions that start at a later row where they are switched on to the end.
    """
    switched = switched_bits(study, possible)
    members: dict[frozenset[object], list[int]] = {}
    done: dict[frozenset[object], dict[Reach, None]] = {}
    for row, knockout in enumerate(study.knockouts):
        own = [
            Reach(reach.action, reach.to_the_end and reach.action in shortened)
            for reach in reaches(knockout, study.anatomy)
            if reach.action in possible
        ]
        if own and switched[row].any():
            # Equal targets start at equal rows, unless rows that are never read again are left out.
            key = frozenset(
                reach if reach.to_the_end else (stack_of(reach.action), reach.action.target) for reach in own
            )
            members.setdefault(key, []).append(row)
            done.setdefault(key, {}).update(dict.fromkeys(own))
    return tuple((tuple(done[key]), build_trie(switched, rows)) for key, rows in members.items())


def switched_bits(study: Study, possible: frozenset[Action]) -> Bool[np.ndarray, "config layer bit"]:
    """What every configuration switches on in every layer, all banks flattened, without impossible actions."""
    bits = [np.zeros((len(study.knockouts), study.layers, 0), bool)]
    for bank, chosen in study.actions.items():
        switch = np.asarray(study.switches[bank])
        keep = np.array([action in possible for action in chosen], bool)
        keep = keep.reshape(-1, *[1] * (switch.ndim - 3))
        bits.append((switch & keep).reshape(*switch.shape[:2], -1))
    return np.concatenate(bits, axis=2)


@dataclass(frozen=True)
class Extent:
    """The rows of one stack that a group recomputes, as a static shape.

    Attributes:
        rows: so many consecutive positions of each prompt, from its own first one on.
        prefix: no prompt's first one lies behind so many positions.
    """

    rows: int
    prefix: int


def main_extent(extents: tuple[Extent | None, ...]) -> Extent:
    """The main stack's."""
    extent = extents[-1]
    assert extent is not None, "what changes anything changes the main stack"
    return extent


class GroupShape(NamedTuple):
    """What is static of a group on a batch: see `passes.suffix_pass`.

    Attributes:
        extents: of every stack; None where a stack before the main one is as in the base run.
        together: lanes that run at a time.
        runs: so many times at most.
    """

    extents: tuple[Extent | None, ...]
    together: int
    runs: int


class Schedule(NamedTuple):
    """A group's trie as the arrays that its pass reads: another study of this shape compiles nothing.

    Attributes:
        runs: of every layer, how many times `together` lanes run.
        moved: whether a lane of this layer continues another one.
        sources, members: see `schedule.Trie`.
        ends: of every stack, the lane of each of the study's configurations behind it.
    """

    runs: Int[np.ndarray, " layer"]
    moved: Bool[np.ndarray, " layer"]
    sources: Int[np.ndarray, "layer run together"]
    members: Int[np.ndarray, "layer run together"]
    ends: Int[np.ndarray, "stack config"]


@dataclass(frozen=True, eq=False)
class Group:
    """One group on a batch.

    Attributes:
        trie: of its configurations.
        shape: static.
        schedule: the trie's arrays in this shape.
    """

    trie: Trie
    shape: GroupShape
    schedule: Schedule

    @property
    def main(self) -> Extent:
        """The main stack's."""
        return main_extent(self.shape.extents)

    @property
    def executed_lane_layers(self) -> int:
        """Lanes that run, idle ones among them, in all layers together."""
        return int(self.schedule.runs.sum()) * self.shape.together


# Of every stack, a row of each prompt; None where a stack is as in the base run.
StackRows = tuple[Rows | None, ...]


@dataclass(frozen=True)
class Placement:
    """A study's groups placed on one batch.

    Attributes:
        groups: static shapes.
        begins: first row of every prompt that can change, for each group.
        starts: first row recomputed, at or before it, so that all rows lie within the padded length.
        first, rows: the suffix of every stack that the base pass must keep.
    """

    groups: tuple[Group, ...]
    begins: tuple[StackRows, ...]
    starts: tuple[StackRows, ...]
    first: tuple[Rows, ...]
    rows: tuple[int, ...]


def round_up(value: int, step: int) -> int:
    """The least multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def round_rows(needed: int) -> int:
    """Suffix rows of a program that computes so many."""
    return round_up(needed, ROW_STEP if needed <= MANY_ROWS else MANY_ROWS_STEP)


def place_study(
    study: Study, positions: Positions, batch: Batch, generated: int = 0, platform: str | None = None
) -> Placement:
    """Where each group starts in each prompt of a batch.

    Args:
        positions: the batch's, as built for the study's actions.
        generated: so many positions behind each prompt are those of its answer; the placement is the prompts' all the
            same (`drafts.drafted_groups` makes room behind them).
        platform: that the passes are compiled for, as JAX names it; None: the one at hand.
    """
    first = first_rows(study, positions, batch, generated)
    possible = frozenset(reach.action for reach, rows in first.items() if (rows >= 0).any())
    shortened = frozenset(
        action for action in possible if (first[Reach(action, True)] != first[Reach(action, False)]).any()
    )
    tries = group_tries(study, possible, shortened)
    begins = [group_begins({reach: first[reach] for reach in done}, study.anatomy, batch) for done, _ in tries]
    placed = [[place_rows(begin, inputs) for begin, inputs in zip(own, batch.inputs, strict=True)] for own in begins]
    extents = [tuple(None if one is None else one[0] for one in own) for own in placed]
    starts = tuple(tuple(None if one is None else one[1] for one in own) for own in placed)
    rows, overhead = -(-len(batch.length) // mesh_size(DATA)), run_overhead(platform or jax.default_backend())
    groups = tuple(
        shape_group(trie, own, study, lanes_together(trie.lanes, main_extent(own).rows * rows, overhead))
        for (_, trie), own in zip(tries, extents, strict=True)
    )
    windows = [
        kept_window([(start[number], extent[number]) for start, extent in zip(starts, extents, strict=True)], inputs)
        for number, inputs in enumerate(batch.inputs)
    ]
    return Placement(
        groups, tuple(begins), starts, tuple(first for first, _ in windows), tuple(rows for _, rows in windows)
    )


def shape_group(trie: Trie, extents: tuple[Extent | None, ...], study: Study, together: int) -> Group:
    """A trie as arrays.

    Args:
        together: lanes that run at a time; rounded up, since devices along CONFIGURATIONS share them.
    """
    together = round_up(together, mesh_size(CONFIGURATIONS))
    lanes = round_up(trie.lanes[-1], together)
    shape = GroupShape(extents, together, lanes // together)

    def by_run(of_lanes: Int[np.ndarray, "layer lane"], idle: int) -> Int[np.ndarray, "layer run together"]:
        more = ((0, 0), (0, lanes - of_lanes.shape[1]))
        return np.pad(of_lanes, more, constant_values=idle).reshape(-1, shape.runs, together).astype(np.int32)

    own = np.arange(trie.sources.shape[1])
    ends = np.full((len(study.anatomy.stacks), len(study.knockouts)), BASE, np.int32)
    last = np.cumsum([stack.layers for stack in study.anatomy.stacks]) - 1
    ends[:, list(trie.configurations)] = trie.ends[:, last].T
    schedule = Schedule(
        np.array([-(-count // together) for count in trie.lanes], np.int32),
        ((trie.sources != own) & (trie.sources != BASE)).any(1),
        by_run(trie.sources, BASE),
        by_run(trie.members, trie.configurations[0]),
        ends,
    )
    return Group(trie, shape, schedule)


def group_begins(first: Mapping[Reach, Rows], anatomy: Anatomy, batch: Batch) -> StackRows:
    """The first row of every stack that a group can change, in each prompt."""
    begins: list[Rows | None] = []
    for shape, inputs in zip(anatomy.stacks, batch.inputs, strict=True):
        length = np.asarray(inputs.length)
        # A prompt in which an action can change nothing needs at least its last row.
        own = [
            np.where(rows < 0, length - 1, rows)
            for reach, rows in first.items()
            if stack_of(reach.action) == shape.name
        ]
        if any(begin is not None for begin in begins):
            own.append(np.asarray(inputs.entry))
        begins.append(np.min(own, axis=0) if own else None)
    return tuple(begins)


def place_rows(begin: Rows | None, inputs: StackInput) -> tuple[Extent, Rows] | None:
    """The static shape of the rows from `begin` to the prompts' ends, and each prompt's first one of them."""
    if begin is None:
        return None
    padded = inputs.tokens.shape[1]
    needed = int((np.asarray(inputs.length) - begin).max())
    rows = needed if needed == 1 else min(padded, round_rows(needed))
    start = np.minimum(begin, padded - rows).astype(np.int32)
    return Extent(rows, min(padded, round_up(max(1, int(start.max())), PREFIX_STEP))), start


def kept_window(
    groups: Sequence[tuple[Rows | None, Extent | None]], inputs: StackInput
) -> tuple[Int[np.ndarray, " batch"], int]:
    """One window of each prompt (first row, rows) that holds every group's rows; the last row where there are none."""
    padded = inputs.tokens.shape[1]
    used = [(start, extent) for start, extent in groups if start is not None and extent is not None]
    if not used:
        return (np.asarray(inputs.length) - 1).astype(np.int32), 1
    lowest = np.min([start for start, _ in used], axis=0)
    highest = np.max([start + extent.rows for start, extent in used], axis=0)
    rows = min(padded, round_up(int((highest - lowest).max()), PREFIX_STEP))
    return np.minimum(lowest, padded - rows).astype(np.int32), rows
