"""Which rows of which prompts each configuration needs: a study's tries placed on one batch of prompts.

Configurations that aim at the same roles start at the same position of a prompt, so they form one group: the three
pathways to `Last` recompute one row, the three to `Question` the question and what follows. A group is one compiled
program for each pair of (suffix rows, prefix positions), both rounded up so that a study compiles a handful of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import Action, DrawnEdges, Edges, Knockout, RoleSet
from xmflow_jax.knockout.arrays import (
    DRAWN_KINDS,
    EDGE_KINDS,
    Actions,
    Positions,
    Switches,
    build_switches,
    collect_actions,
    kind_of,
)
from xmflow_jax.knockout.fast.schedule import Trie, build_trie

# Suffix rows and prefix positions are rounded up to these. One row stays one row.
ROW_STEP = 8
PREFIX_STEP = 16

# Row-layers that a group may compute beyond the necessary, so that it compiles fewer segments: a group of few rows is
# cheap to run and as slow to compile as any.
WASTE = 0.04
WASTE_OF_FEW_ROWS = 0.25
FEW_ROWS = 3


@dataclass(frozen=True, eq=False)
class Study:
    """Configurations and what is computed once for all of them."""

    knockouts: tuple[Knockout, ...]
    actions: Actions
    switches: Switches

    @property
    def layers(self) -> int:
        return self.switches.mask.shape[1]


def build_study(knockouts: Sequence[Knockout], layers: int, heads: int) -> Study:
    """A study of a model with so many layers and query heads.

    Raises:
        OptionError: a layer or head is not one of the model's.
    """
    actions = collect_actions(knockouts)
    return Study(tuple(knockouts), actions, build_switches(knockouts, actions, layers, heads))


def check_positions(prompts: Sequence[Mapping[str, Bool[np.ndarray, " _"]]], actions: Actions) -> None:
    """Every role set that an action names has at least one position in every prompt: no silent no-op.

    Raises:
        OptionError: a role is unknown to a prompt or matches no position of it.
    """
    for roles in prompts:
        for own in (action for kind in actions for action in kind):
            action = own.like if isinstance(own, DrawnEdges) else own
            for end in ("source", "target") if isinstance(action, Edges) else ("target",):
                chosen: RoleSet = getattr(action, end)
                if chosen.role not in roles:
                    raise OptionError(f"the prompt has no role {chosen.role!r}")
                if not chosen.complement and not roles[chosen.role].any():
                    raise OptionError(f"role {chosen.role!r} matches no position of the prompt")


@dataclass(frozen=True)
class Reach:
    """An action as one configuration uses it.

    Attributes:
        to_the_end: an edge set blocked in every layer from the configuration's first one on. Where all positions from
            some source on are its targets, that source is then never read again: what becomes of it is of no effect,
            and its row need not be computed. So `Image->All@to-end` costs no image row. (Only where edges are masked:
            in mode `zero` a source's key still takes its part of the softmax.)
    """

    action: Action
    to_the_end: bool


def reaches(knockout: Knockout, layers: int) -> tuple[Reach, ...]:
    """The knockout's actions, in its order."""
    first = min((layer for part in knockout.switched for layer in part[1]), default=layers)
    to_the_end = set(range(first, layers))
    return tuple(
        Reach(action, kind_of(action) == "mask" and heads is None and set(blocked) == to_the_end)
        for action, blocked, heads in knockout.switched
    )


def first_rows(
    positions: Positions, actions: Actions, length: Int[np.ndarray, " batch"], generated: int = 0
) -> dict[Reach, Int[np.ndarray, " batch"]]:
    """The first row of each prompt that an action can change with effect; -1 where causality leaves it none.

    Args:
        generated: so many positions behind each prompt are read as well; what changes those alone starts at the last
            row.
    """
    first = {}
    place = np.arange(positions.mask_target.shape[-1])
    real = place < length[:, None] + generated
    for kind, chosen in zip(Actions._fields, actions, strict=True):
        for column, action in enumerate(chosen):
            unread = np.zeros_like(real)
            if isinstance(action, Edges):
                source = getattr(positions, f"{kind}_source")[:, column]
                target = getattr(positions, f"{kind}_target")[:, column]
                if action.cross:
                    # Every target sees all of the encoder's positions.
                    target = target & source.any(1, keepdims=True)
                else:
                    # Sources from which on every position is a target.
                    unread = source & np.logical_and.accumulate((target | ~real)[:, ::-1], axis=1)[:, ::-1]
                    # A target sees a source only from the first source on.
                    target = target & np.logical_or.accumulate(source, axis=1)
            elif kind in DRAWN_KINDS:
                # They begin where their pathway does, so that both are in one group.
                drawn = getattr(positions, kind)[:, column], getattr(positions, f"{kind}_cross")[:, column]
                target = drawn[0].any(2) | drawn[1].any(2)
            else:
                target = getattr(positions, kind)[:, column]
            # The answer's rows are read in any case.
            unread &= place < length[:, None] - 1
            for to_the_end, rows in ((False, target & real), (True, target & real & ~unread)):
                row = np.minimum(rows.argmax(1), length - 1)
                first[Reach(action, to_the_end)] = np.where(rows.any(1), row, -1)
    return first


@lru_cache(maxsize=64)
def group_tries(
    study: Study, possible: frozenset[Action], shortened: frozenset[Action], waste: float
) -> tuple[tuple[tuple[Reach, ...], Trie], ...]:
    """The study's configurations grouped by where they start: (what the group does, its trie).

    Args:
        possible: actions that can change something; the others are left out, and a configuration without any is the
            base run and in no group.
        shortened: actions that start at a later row where they are blocked to the end.
        waste: see `segment_layers`.
    """
    bits = []
    for kind, chosen, switch in zip(Actions._fields, study.actions, study.switches, strict=True):
        keep = np.array([action in possible for action in chosen], bool)
        if kind in EDGE_KINDS:
            keep = keep[:, None]
        bits.append((np.asarray(switch) & keep).reshape(*switch.shape[:2], -1))
    switched = np.concatenate(bits, axis=2)
    members: dict[frozenset[RoleSet | Reach], list[int]] = {}
    done: dict[frozenset[RoleSet | Reach], dict[Reach, None]] = {}
    for row, knockout in enumerate(study.knockouts):
        own = [
            Reach(reach.action, reach.to_the_end and reach.action in shortened)
            for reach in reaches(knockout, study.layers)
            if reach.action in possible
        ]
        if own and switched[row].any():
            # Equal targets start at equal rows, unless rows that are never read again are left out.
            key = frozenset(reach if reach.to_the_end else reach.action.target for reach in own)
            members.setdefault(key, []).append(row)
            done.setdefault(key, {}).update(dict.fromkeys(own))
    return tuple((tuple(done[key]), build_trie(switched, rows, waste)) for key, rows in members.items())


@dataclass(frozen=True)
class Group:
    """One group's static shape on a batch: see `suffix_pass`.

    Attributes:
        fine, coarse: the same configurations in more segments and in fewer.
    """

    fine: Trie
    coarse: Trie
    rows: int
    prefix: int

    @property
    def trie(self) -> Trie:
        """The one that suits its rows."""
        return self.coarse if self.rows <= FEW_ROWS else self.fine


@dataclass(frozen=True)
class Placement:
    """A study's groups placed on one batch.

    Attributes:
        groups: static shapes.
        begins: first row of every prompt that can change, for each group.
        starts: first row recomputed, at or before it, so that all rows lie within the padded length.
        first, rows: the suffix that the base pass must keep.
    """

    groups: tuple[Group, ...]
    begins: tuple[Int[np.ndarray, " batch"], ...]
    starts: tuple[Int[np.ndarray, " batch"], ...]
    first: Int[np.ndarray, " batch"]
    rows: int


def round_up(value: int, step: int) -> int:
    """The least multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def place_study(
    study: Study, positions: Positions, length: Int[np.ndarray, " batch"], padded: int, generated: int = 0
) -> Placement:
    """Where each group starts in each prompt of a batch.

    Args:
        positions: the batch's, as built for the study's actions.
        length: real positions of each prompt.
        padded: the length that all prompts are padded to.
        generated: so many positions behind each prompt are those of its answer; the placement is the prompts' all the
            same (`draft.drafted_groups` makes room behind them).
    """
    first = first_rows(positions, study.actions, length, generated)
    possible = frozenset(reach.action for reach, rows in first.items() if (rows >= 0).any())
    shortened = frozenset(
        action for action in possible if (first[Reach(action, True)] != first[Reach(action, False)]).any()
    )
    groups, begins, starts = [], [], []
    fine, coarse = (group_tries(study, possible, shortened, waste) for waste in (WASTE, WASTE_OF_FEW_ROWS))
    for (done, finer), (_, coarser) in zip(fine, coarse, strict=True):
        # A prompt in which an action can change nothing needs at least its last row.
        begin = np.min([np.where(first[reach] < 0, length - 1, first[reach]) for reach in done], axis=0)
        needed = int((length - begin).max())
        rows = needed if needed == 1 else min(padded, round_up(needed, ROW_STEP))
        start = np.minimum(begin, padded - rows).astype(np.int32)
        prefix = min(padded, round_up(max(1, int(start.max())), PREFIX_STEP))
        groups.append(Group(finer, coarser, rows, prefix))
        begins.append(begin)
        starts.append(start)
    if not groups:
        return Placement((), (), (), (length - 1).astype(np.int32), 1)
    # The base pass keeps one window per prompt that holds every group's suffix.
    lowest = np.min(starts, axis=0)
    highest = np.max([start + group.rows for start, group in zip(starts, groups, strict=True)], axis=0)
    rows = min(padded, round_up(int((highest - lowest).max()), ROW_STEP))
    return Placement(
        tuple(groups), tuple(begins), tuple(starts), np.minimum(lowest, padded - rows).astype(np.int32), rows
    )


def impossible_actions(positions: Positions, actions: Actions, length: Int[np.ndarray, " batch"]) -> list[set[Action]]:
    """For each prompt, the actions that causality makes impossible, such as edges from later text to earlier text.

    Whatever `positions` tell of generated positions does not count.
    """
    first = first_rows(positions, actions, length)
    return [
        {reach.action for reach, rows in first.items() if not reach.to_the_end and rows[prompt] < 0}
        for prompt in range(len(length))
    ]
