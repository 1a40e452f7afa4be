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

import jax
import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.batch import Batch, Prompt, StackInput
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.arrays import Actions, Positions, Switches, build_switches, collect_actions
from xmflow_jax.knockout.fast.schedule import Trie, build_trie
from xmflow_jax.knockout.kinds import KINDS, kind_of
from xmflow_jax.knockout.kinds.kind import Action, Sight
from xmflow_jax.nn.interfaces import MAIN, Anatomy

# Suffix rows and prefix positions are rounded up to these. One row stays one row.
ROW_STEP = 8
PREFIX_STEP = 16

# Row-layers that a group may compute beyond the necessary, so that it compiles fewer segments: a group of few rows is
# cheap to run and as slow to compile as any.
WASTE = 0.04
WASTE_OF_FEW_ROWS = 0.25
FEW_ROWS = 3

Rows = Int[np.ndarray, " batch"]


@dataclass(frozen=True, eq=False)
class Study:
    """Configurations and what is computed once for all of them."""

    knockouts: tuple[Knockout, ...]
    actions: Actions
    switches: Switches
    anatomy: Anatomy

    @property
    def layers(self) -> int:
        """Of all stacks together."""
        return self.anatomy.layers


def build_study(knockouts: Sequence[Knockout], anatomy: Anatomy) -> Study:
    """A study of a model.

    Raises:
        OptionError: a site, a layer or a head is not one of the model's.
    """
    actions = collect_actions(knockouts)
    return Study(tuple(knockouts), actions, build_switches(knockouts, actions, anatomy), anatomy)


def check_positions(prompts: Sequence[Prompt], actions: Actions) -> None:
    """Every role set that an action names has at least one position in every prompt: no silent no-op.

    Raises:
        OptionError: a role is unknown to a prompt or matches no position of it.
    """
    for prompt in prompts:
        stacks = {**prompt.before, MAIN: prompt}
        for action in distinct(actions):
            for stack, chosen in kind_of(action).ends(action):
                roles = stacks[stack].roles
                if chosen.role not in roles:
                    raise OptionError(f"the prompt has no role {chosen.role!r}")
                if not chosen.complement and not roles[chosen.role].any():
                    raise OptionError(f"role {chosen.role!r} matches no position of the prompt")


def distinct(actions: Actions) -> tuple[Action, ...]:
    """A study's actions, each once."""
    return tuple(dict.fromkeys(action for own in actions.values() for action in own))


@dataclass(frozen=True)
class Reach:
    """An action as one configuration uses it.

    Attributes:
        to_the_end: it is switched on in every layer from the configuration's first one on, in all heads. Where every
            position that could read some source is a target, that source is then never read again: what becomes of it
            is of no effect, and its row need not be computed. So `Image->All@to-end` costs no image row.
    """

    action: Action
    to_the_end: bool


def stack_of(action: Action) -> str:
    """The stack whose rows an action changes."""
    return kind_of(action).banks(action)[0].site.stack


def reaches(knockout: Knockout, anatomy: Anatomy) -> tuple[Reach, ...]:
    """The knockout's actions, in its order."""
    first = min((layer for part in knockout.switched for layer in part[1]), default=anatomy.layers)
    # Of several stacks, all that the earlier ones leave is read by later ones.
    to_the_end = set(range(first, anatomy.main.layers)) if len(anatomy.stacks) == 1 else None
    return tuple(
        Reach(action, heads is None and set(blocked) == to_the_end) for action, blocked, heads in knockout.switched
    )


def first_rows(study: Study, positions: Positions, batch: Batch, generated: int = 0) -> dict[Reach, Rows]:
    """The first row of each prompt, in the stack that an action is about, that it can change with effect; -1 where
    visibility leaves it none.

    Args:
        generated: so many positions behind each prompt of the main stack are read as well; what changes those alone
            starts at the last row.
    """
    numbers = {stack.name: number for number, stack in enumerate(study.anatomy.stacks)}
    first: dict[Reach, Rows] = {}
    for bank, chosen in study.actions.items():
        inputs, more = batch.inputs[numbers[bank.site.stack]], generated if bank.site.stack == MAIN else 0
        length = np.asarray(inputs.length)
        for column, action in enumerate(chosen):
            own = jax.tree.map(lambda leaf, column=column: np.asarray(leaf)[:, column], positions[bank])
            place = np.arange(KINDS[bank.kind].rows(own))
            sight = Sight(place < length[:, None] + more, padded_blocks(inputs.blocks, len(place)))
            targets, unread = KINDS[bank.kind].changed(bank, action, own, sight)
            # The answer's rows are read in any case.
            skipped = np.zeros_like(sight.real) if unread is None else unread & (place < length[:, None] - 1)
            for to_the_end, left in ((False, np.zeros_like(skipped)), (True, skipped)):
                row = first_changed(targets & sight.real & ~left, sight.real & ~left, sight.blocks)
                row = np.where(row < 0, row, np.minimum(row, length - 1))
                known = first.get(Reach(action, to_the_end), row)
                # An action at several sites begins at the earliest.
                earliest = np.where((row < 0) | (known < 0), np.maximum(row, known), np.minimum(row, known))
                first[Reach(action, to_the_end)] = earliest
    return first


def padded_blocks(blocks: Int[np.ndarray, "batch _"] | None, length: int) -> Int[np.ndarray, "batch _"] | None:
    """Block numbers with 0 behind them, or cut off, so that there are `length` of each prompt."""
    if blocks is None:
        return None
    numbers = np.asarray(blocks)[:, :length]
    return np.pad(numbers, ((0, 0), (0, length - numbers.shape[1])))


def first_changed(
    targets: Bool[np.ndarray, "batch position"],
    read: Bool[np.ndarray, "batch position"],
    blocks: Int[np.ndarray, "batch position"] | None,
) -> Rows:
    """The first row that can change in any layer, where the targets change in the first; -1 where there are none.

    Everything behind a changed row can change in the next layer, and so can every row of a block that holds one of
    those: the first row of all is where no block reaches further back.

    Args:
        read: rows that count.
    """
    first = np.where(targets.any(1), targets.argmax(1), -1)
    if blocks is None:
        return first
    for row, start in enumerate(first):
        own = np.where(read[row], blocks[row], 0)
        begins = {int(number): int((own == number).argmax()) for number in np.unique(own[own > 0])}
        reach = np.array([begins.get(int(number), place) for place, number in enumerate(own)])
        back = np.minimum.accumulate(reach[::-1])[::-1]
        while start >= 0 and back[start] < start:
            start = back[start]
        first[row] = start
    return first


@lru_cache(maxsize=64)
def group_tries(
    study: Study, possible: frozenset[Action], shortened: frozenset[Action], waste: float
) -> tuple[tuple[tuple[Reach, ...], Trie], ...]:
    """The study's configurations grouped by where they start: (what the group does, its trie).

    Args:
        possible: actions that can change something; the others are left out, and a configuration without any is the
            base run and in no group.
        shortened: actions that start at a later row where they are switched on to the end.
        waste: see `segment_layers`.
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
    breaks = [study.anatomy.first_layer(stack.name) for stack in study.anatomy.stacks[1:]]
    return tuple((tuple(done[key]), build_trie(switched, rows, waste, breaks)) for key, rows in members.items())


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


@dataclass(frozen=True)
class Group:
    """One group's static shape on a batch: see `passes.suffix_pass`.

    Attributes:
        fine, coarse: the same configurations in more segments and in fewer.
        extents: of every stack; None where a stack before the main one is as in the base run.
    """

    fine: Trie
    coarse: Trie
    extents: tuple[Extent | None, ...]

    @property
    def main(self) -> Extent:
        """The main stack's."""
        extent = self.extents[-1]
        assert extent is not None, "what changes anything changes the main stack"
        return extent

    @property
    def trie(self) -> Trie:
        """The one that suits its rows."""
        return self.coarse if self.main.rows <= FEW_ROWS else self.fine


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


def place_study(study: Study, positions: Positions, batch: Batch, generated: int = 0) -> Placement:
    """Where each group starts in each prompt of a batch.

    Args:
        positions: the batch's, as built for the study's actions.
        generated: so many positions behind each prompt are those of its answer; the placement is the prompts' all the
            same (`drafts.drafted_groups` makes room behind them).
    """
    first = first_rows(study, positions, batch, generated)
    possible = frozenset(reach.action for reach, rows in first.items() if (rows >= 0).any())
    shortened = frozenset(
        action for action in possible if (first[Reach(action, True)] != first[Reach(action, False)]).any()
    )
    fine, coarse = (group_tries(study, possible, shortened, waste) for waste in (WASTE, WASTE_OF_FEW_ROWS))
    begins = [group_begins({reach: first[reach] for reach in done}, study.anatomy, batch) for done, _ in fine]
    placed = [[place_rows(begin, inputs) for begin, inputs in zip(own, batch.inputs, strict=True)] for own in begins]
    extents = [tuple(None if one is None else one[0] for one in own) for own in placed]
    starts = tuple(tuple(None if one is None else one[1] for one in own) for own in placed)
    groups = tuple(
        Group(finer, coarser, own) for (_, finer), (_, coarser), own in zip(fine, coarse, extents, strict=True)
    )
    windows = [
        kept_window([(start[number], extent[number]) for start, extent in zip(starts, extents, strict=True)], inputs)
        for number, inputs in enumerate(batch.inputs)
    ]
    return Placement(
        groups, tuple(begins), starts, tuple(first for first, _ in windows), tuple(rows for _, rows in windows)
    )


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
    rows = needed if needed == 1 else min(padded, round_up(needed, ROW_STEP))
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
    rows = min(padded, round_up(int((highest - lowest).max()), ROW_STEP))
    return np.minimum(lowest, padded - rows).astype(np.int32), rows


def impossible_actions(study: Study, positions: Positions, batch: Batch) -> list[set[Action]]:
    """For each prompt, the actions that visibility makes impossible, such as edges from later text to earlier text.

    Whatever `positions` tell of generated positions does not count.
    """
    first = first_rows(study, positions, batch)
    return [
        {reach.action for reach, rows in first.items() if not reach.to_the_end and rows[prompt] < 0}
        for prompt in range(len(batch.length))
    ]
