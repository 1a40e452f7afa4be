"""The base run's answers as drafts of the answers under knockout: how much is read, and where it stands on a batch.

A configuration's suffix pass reads the prompt's rows and, behind them, the draft's tokens but the last; the argmax at
each of these positions either confirms the draft's next token or departs from it. Up to its departure, an answer is
known; what follows is decoded on (`continued.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.fast.placement import (
    MANY_ROWS_STEP,
    PREFIX_STEP,
    Extent,
    Group,
    Placement,
    StackRows,
    round_rows,
    round_up,
)

# Rows that are computed again for departed answers are rounded up to multiples of this, or to a power of two below.
AGAIN_STEP = 8

TokenIds = Int[np.ndarray, "batch step"]


def generated_room(answer_length: int) -> int:
    """Positions that a study's arrays must have behind the padded prompts: those of the answer's tokens that are read,
    and the rest of the last block of rows. None for the first token alone, which is not read."""
    return 0 if answer_length == 1 else answer_length - 1 + MANY_ROWS_STEP


def answer_lengths(tokens: TokenIds, end_tokens: Sequence[int]) -> Int[np.ndarray, " batch"]:
    """Tokens of each answer, its end token among them."""
    ended = np.isin(tokens, end_tokens)
    return np.where(ended.any(1), ended.argmax(1) + 1, tokens.shape[1])


def tokens_checked(length: Int[np.ndarray, " batch"], most: int) -> int:
    """How many tokens of a batch's drafts are checked: those of its longest answer, but 1, 2, 3, 5, 9, ... or the most
    there can be, since every number is another program."""
    longest = int(length.max(initial=1))
    return longest if longest == 1 else min(most, 1 + (1 << (longest - 2).bit_length()))


@dataclass(frozen=True)
class DraftedGroup:
    """A group's static shape and place when drafts stand behind the prompts.

    Attributes:
        group: its rows of the main stack cover every prompt and the draft's tokens that are read.
        starts: of every stack, the first row that is recomputed; all rows lie within the arrays of positions.
        longest: rows of the main stack that cover the prompts and every token of the longest answer that is read.
        again: rows of the main stack that are computed again for answers that depart, as many in few kinds of groups.
    """

    group: Group
    starts: StackRows
    longest: int
    again: int

    @property
    def start(self) -> Int[np.ndarray, " batch"]:
        """Of the main stack."""
        start = self.starts[-1]
        assert start is not None, "what changes anything changes the main stack"
        return start

    @property
    def in_main_alone(self) -> bool:
        """Whether the stacks before the main one are as in the base run."""
        return all(extent is None for extent in self.group.shape.extents[:-1])


def drafted_groups(
    placement: Placement, batch: Batch, answers: int, answer_length: int
) -> tuple[tuple[DraftedGroup, ...], int]:
    """The placement's groups with room for `answers - 1` tokens, and the rows of the base run's window that hold them.

    Args:
        batch: host arrays; the arrays of positions are longer than its prompts by `generated_room`.
        answer_length: most tokens of an answer.
    """
    groups, window = [], placement.rows[-1]
    length, padded = np.asarray(batch.length), batch.tokens.shape[1]
    needs = [rows_needed(begins, length) for begins in placement.begins]
    all_rows = [answers if needed == 1 else round_rows(needed + answers - 1) for needed in needs]
    for number, (group, begins, starts) in enumerate(
        zip(placement.groups, placement.begins, placement.starts, strict=True)
    ):
        begin, needed, rows = begins[-1], needs[number], all_rows[number]
        assert begin is not None, "what changes anything changes the main stack"
        longest = max(rows, needed + answer_length - 1)
        start = np.minimum(begin, padded + generated_room(answer_length) - longest).astype(np.int32)
        extent = Extent(rows, min(padded, round_up(max(1, int(start.max())), PREFIX_STEP)))
        shape = group.shape._replace(extents=(*group.shape.extents[:-1], extent))
        again = rows_again(rows, max(all_rows))
        groups.append(DraftedGroup(replace(group, shape=shape), (*starts[:-1], start), longest, again))
        window = max(window, int((start - placement.first[-1]).max()) + max(rows, again))
    return tuple(groups), round_up(window, PREFIX_STEP)


def rows_needed(begins: StackRows, length: Int[np.ndarray, " batch"]) -> int:
    """Rows of the main stack from a group's first one to the prompts' ends, of the prompt that has most."""
    begin = begins[-1]
    assert begin is not None, "what changes anything changes the main stack"
    return int((length - begin).max())


def rows_again(rows: int, most: int) -> int:
    """Rows that are computed again for departed answers: those of the largest group, where that is not twice as many,
    and no other number than a few. Every number is another body of the program, and every set of numbers another
    program.

    Args:
        rows: of the group.
        most: of the largest one.
    """
    rows = most if 2 * rows >= most else rows
    return 1 << (rows - 1).bit_length() if rows <= AGAIN_STEP else round_up(rows, AGAIN_STEP)


@dataclass(frozen=True, eq=False)
class Checked:
    """What the check of the drafts leaves: answers [batch, config, step] as far as they are known.

    Attributes:
        tokens: known tokens; behind them stands an end token.
        known: how many.
        departed: answers that go on.
    """

    tokens: Int[np.ndarray, "batch config step"]
    known: Int[np.ndarray, "batch config"]
    departed: Bool[np.ndarray, "batch config"]


def check_drafts(
    draft: TokenIds, following: Int[np.ndarray, "batch config checked"], end_tokens: Sequence[int]
) -> Checked:
    """Where each configuration departs from its prompt's draft.

    Args:
        draft: whole base answers.
        following: argmax at the prompt's last position and behind each token of the draft that was read.
    """
    steps, checked = draft.shape[1], following.shape[2]
    length = answer_lengths(draft, end_tokens)
    compared = np.arange(checked) < length[:, None, None]
    departs = compared & (following != draft[:, None, :checked])
    changed, step = departs.any(2), departs.argmax(2)
    known = np.where(changed, step + 1, length[:, None])
    own = np.take_along_axis(following, step[..., None], axis=2)
    place = np.arange(steps)
    tokens = np.where(place < known[..., None] - changed[..., None], draft[:, None], end_tokens[0])
    tokens = np.where(changed[..., None] & (place == step[..., None]), own, tokens)
    goes_on = changed & ~np.isin(own[..., 0], end_tokens) & (known < steps)
    return Checked(tokens.astype(draft.dtype), known, goes_on)
