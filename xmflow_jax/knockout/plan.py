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
from xmflow_jax.knockout.arrays import Actions, Positions, Switches, build_positions, build_switches, collect_actions
from xmflow_jax.knockout.configuration import Action, Edges, Knockout, RoleSet
from xmflow_jax.knockout.schedule import Trie, build_trie

# Suffix rows and prefix positions are rounded up to these. One row stays one row.
ROW_STEP = 8
PREFIX_STEP = 16


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


def check_positions(prompts: Sequence[Mapping[str, Bool[np.ndarray, " position"]]], actions: Actions) -> None:
    """Every role set that an action names has at least one position in every prompt: no silent no-op.

    Raises:
        OptionError: a role is unknown to a prompt or matches no position of it.
    """
    for roles in prompts:
        for action in (action for kind in actions for action in kind):
            for end in ("source", "target") if isinstance(action, Edges) else ("target",):
                chosen: RoleSet = getattr(action, end)
                if chosen.role not in roles:
                    raise OptionError(f"the prompt has no role {chosen.role!r}")
                if not chosen.complement and not roles[chosen.role].any():
                    raise OptionError(f"role {chosen.role!r} matches no position of the prompt")


def first_rows(positions: Positions, actions: Actions) -> dict[Action, Int[np.ndarray, " batch"]]:
    """The first position of each prompt that an action can change, or -1 where causality lets it change none."""
    first = {}
    for kind, chosen in zip(Actions._fields, actions, strict=True):
        for column, action in enumerate(chosen):
            if isinstance(action, Edges):
                source = getattr(positions, f"{kind}_source")[:, column]
                target = getattr(positions, f"{kind}_target")[:, column]
                # A target sees a source only from the first source on.
                target = target & np.logical_or.accumulate(source, axis=1)
            else:
                target = getattr(positions, kind)[:, column]
            first[action] = np.where(target.any(1), target.argmax(1), -1)
    return first


@lru_cache(maxsize=64)
def group_tries(study: Study, possible: frozenset[Action]) -> tuple[tuple[tuple[Action, ...], Trie], ...]:
    """The study's configurations grouped by the roles they aim at: (the group's possible actions, its trie).

    Args:
        possible: actions that can change something; the others are left out, and a configuration without any is the
            base run and in no group.
    """
    bits = []
    for kind, chosen, switch in zip(Actions._fields, study.actions, study.switches, strict=True):
        keep = np.array([action in possible for action in chosen], bool)
        if kind in ("mask", "zero"):
            keep = keep[:, None]
        bits.append((np.asarray(switch) & keep).reshape(*switch.shape[:2], -1))
    switched = np.concatenate(bits, axis=2)
    members: dict[frozenset[RoleSet], list[int]] = {}
    for row, knockout in enumerate(study.knockouts):
        targets = frozenset(part[0].target for part in knockout.switched if part[0] in possible)
        if targets and switched[row].any():
            members.setdefault(targets, []).append(row)
    groups = []
    for rows in members.values():
        actions = dict.fromkeys(
            part[0] for row in rows for part in study.knockouts[row].switched if part[0] in possible
        )
        groups.append((tuple(actions), build_trie(switched, rows)))
    return tuple(groups)


@dataclass(frozen=True)
class Group:
    """One group's static shape on a batch: see `suffix_pass`."""

    trie: Trie
    rows: int
    prefix: int


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


def place_study(study: Study, positions: Positions, length: Int[np.ndarray, " batch"], padded: int) -> Placement:
    """Where each group starts in each prompt of a batch.

    Args:
        positions: the batch's, as built for the study's actions.
        length: real positions of each prompt.
        padded: the length that all prompts are padded to.
    """
    first = first_rows(positions, study.actions)
    possible = frozenset(action for action, rows in first.items() if (rows >= 0).any())
    groups, begins, starts = [], [], []
    for actions, trie in group_tries(study, possible):
        # A prompt in which an action can change nothing needs at least its last row.
        begin = np.min([np.where(first[action] < 0, length - 1, first[action]) for action in actions], axis=0)
        needed = int((length - begin).max())
        rows = needed if needed == 1 else min(padded, round_up(needed, ROW_STEP))
        start = np.minimum(begin, padded - rows).astype(np.int32)
        groups.append(Group(trie, rows, min(padded, round_up(max(1, int(start.max())), PREFIX_STEP))))
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


def impossible_actions(
    prompts: Sequence[Mapping[str, Bool[np.ndarray, " position"]]], actions: Actions
) -> frozenset[Action]:
    """Actions that causality makes impossible in all of these prompts, such as text that precedes its source."""
    length = max(len(next(iter(roles.values()))) for roles in prompts)
    first = first_rows(build_positions(prompts, actions, length), actions)
    return frozenset(action for action, rows in first.items() if (rows < 0).all())
