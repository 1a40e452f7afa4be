"""The first row of a prompt that a knockout can change with effect: from there on, rows are recomputed.

With causal attention that is the first target which sees a source. Where positions see each other
(`nn.visibility`), a change reaches back to the first position of the block that holds it.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.arrays import Positions
from xmflow_jax.knockout.kinds import KINDS, kind_of
from xmflow_jax.knockout.kinds.kind import Action, Sight
from xmflow_jax.knockout.study import Study
from xmflow_jax.nn.anatomy import MAIN, Anatomy

Rows = Int[np.ndarray, " batch"]


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


def impossible_actions(study: Study, positions: Positions, batch: Batch) -> list[set[Action]]:
    """For each prompt, the actions that visibility makes impossible, such as edges from later text to earlier text.

    Whatever `positions` tell of generated positions does not count.
    """
    first = first_rows(study, positions, batch)
    return [
        {reach.action for reach, rows in first.items() if not reach.to_the_end and rows[prompt] < 0}
        for prompt in range(len(batch.length))
    ]
