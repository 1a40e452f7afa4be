"""What fits a device's memory: where a batch does not, fewer questions at a time, then fewer configurations.

What a compiled program takes is known before it runs (`xmflow_jax.machine.memory`) and says how many there can be.
Where a device runs out of memory all the same, half as many are tried. A batch's composition stays as it is, and so do
its rows but for their last bits; it is answered in parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.batch_answers import Answered
from xmflow_jax.machine.memory import MemoryShort

# How XLA begins the message of an allocation that failed, on every backend.
OUT_OF_MEMORY: Final = "RESOURCE_EXHAUSTED"


@dataclass(frozen=True)
class Fit:
    """What is computed at a time.

    Attributes:
        questions: at most so many, the same number on every device.
        pieces: that the study's configurations are computed in.
    """

    questions: int
    pieces: int = 1


T = TypeVar("T")

# Answers some questions of a batch under one of the pieces of the study.
Answer = Callable[[slice, int, Fit], Answered]


def answer_as_fits(
    answer: Answer, count: int, fit: Fit, least: int, most_pieces: int, say: Callable[[str], None]
) -> tuple[Answered, Fit]:
    """A whole batch under a whole study, and what fitted.

    Args:
        count: questions of the batch.
        fit, least, most_pieces, say: as for `as_fits`.

    Raises:
        OptionError: not even one configuration of the fewest questions fits.
    """
    return as_fits(lambda fit: _answer(answer, count, fit), fit, least, most_pieces, say)


def as_fits(
    work: Callable[[Fit], T], fit: Fit, least: int, most_pieces: int, say: Callable[[str], None]
) -> tuple[T, Fit]:
    """What the work gives when it takes no more at a time than fits, and what fitted.

    Args:
        fit: what is tried first.
        least: questions that there must be at a time: one for each device with questions of its own.
        most_pieces: configurations of the study.
        say: told when less is tried.

    Raises:
        OptionError: not even one configuration of the fewest questions fits.
    """
    while True:
        try:
            return work(fit), fit
        except (MemoryShort, jax.errors.JaxRuntimeError) as error:
            short = _short(error)
        smaller = _smaller(fit, short.factor, least, most_pieces)
        if smaller is None:
            raise OptionError(
                f"the device's memory holds not even one configuration of {least} question(s) beside the model; spread "
                "the model over several devices (--mesh model=M) or take --dtype bfloat16"
            )
        fit = smaller
        say(
            f"{short.why}; going on with {fit.questions} question(s) at a time"
            + (f" and the configurations in {fit.pieces} pieces" if fit.pieces > 1 else "")
        )


def try_smaller(work: Callable[[int], None], fit: Fit, least: int, say: Callable[[str], None]) -> Fit:
    """Work on so many questions at a time as fit, if any do; returns what fitted, or the least.

    Args:
        say: told when less is tried, and when it is given up.
    """
    while True:
        try:
            work(fit.questions)
            return fit
        except (MemoryShort, jax.errors.JaxRuntimeError) as error:
            short = _short(error)
        if fit.questions <= least:
            say("the engines are not checked: the device's memory is too small for the plain one")
            return fit
        # One configuration cannot be halved: less of the questions is all there is.
        fit = _smaller(fit, short.factor, least, 1) or fit
        say(f"{short.why}; going on with {fit.questions} question(s) at a time")


@dataclass(frozen=True)
class _Short:
    """By what memory is too small, and the words for it."""

    factor: float
    why: str


def _short(error: MemoryShort | jax.errors.JaxRuntimeError) -> _Short:
    """Raises the error again where it is about something else."""
    if isinstance(error, MemoryShort):
        needed, free = (f"{one / 2**30:.3g} GiB" for one in (error.needed, error.free))
        why = f"a compiled program needs {needed} and the device has {free} free"
        return _Short(error.needed / max(error.free, 1), why)
    if OUT_OF_MEMORY not in str(error):
        raise error
    return _Short(2.0, "the device's memory is too small for this")


def _smaller(fit: Fit, factor: float, least: int, most_pieces: int) -> Fit | None:
    """Less by the factor or more, in halves: of the questions first. None where there is no less."""
    left = fit
    while factor > 1:
        if left.questions > least:
            # Still a multiple of what there must be.
            left = replace(left, questions=max(least, left.questions // 2 // least * least))
        elif left.pieces < most_pieces:
            left = replace(left, pieces=min(most_pieces, 2 * left.pieces))
        else:
            break
        factor /= 2
    return None if left == fit else left


def _answer(answer: Answer, count: int, fit: Fit) -> Answered:
    parts = []
    for first in range(0, count, fit.questions):
        some = slice(first, min(count, first + fit.questions))
        pieces = [answer(some, piece, fit) for piece in range(fit.pieces)]
        parts.append(_beside(pieces))
    return parts[0] if len(parts) == 1 else _below(parts, [len(part.selected) for part in parts])


def pieces_of(rows: Sequence[Any], pieces: int) -> list[Sequence[Any]]:
    """The rows in so many runs of about the same length."""
    bounds = np.linspace(0, len(rows), pieces + 1).astype(int)
    return [rows[first:last] for first, last in pairwise(bounds)]


def _beside(pieces: Sequence[Answered]) -> Answered:
    """The same questions under one piece of the study after the other."""
    first = pieces[0]
    if len(pieces) == 1 or first.measured is None:
        return first

    def joined(field: str) -> Any:
        own = [getattr(piece, field) for piece in pieces]
        if own[0] is None or isinstance(own[0], np.ndarray):
            return None if own[0] is None else np.concatenate(own, axis=1)
        # What is the base run's is the same in all of them.
        parts = {
            name: np.concatenate([getattr(one, name) for one in own], axis=1)
            for name in own[0]._fields
            if getattr(own[0], name).ndim > 1
        }
        return own[0]._replace(**parts)

    impossible = [set().union(*own) for own in zip(*(piece.impossible for piece in pieces), strict=True)]
    found = {field: joined(field) for field in ("measured", "margins", "tokens")}
    return replace(first, impossible=impossible, **found)


def _below(parts: Sequence[Answered], counts: Sequence[int]) -> Answered:
    """One group of questions after the other. What a group has none of, because none of it was selected, is filled."""
    some = next((part for part in parts if part.measured is not None), None)
    selected = np.concatenate([part.selected for part in parts])
    impossible = [own for part in parts for own in part.impossible]
    if some is None:
        return replace(parts[0], selected=selected, impossible=impossible)

    def joined(field: str) -> Any:
        pattern = getattr(some, field)
        if pattern is None:
            return None
        own = [
            jax.tree.map(lambda leaf, count=count: np.zeros((count, *leaf.shape[1:]), leaf.dtype), pattern)
            if part.measured is None
            else getattr(part, field)
            for part, count in zip(parts, counts, strict=True)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *own)

    assert some.states is not None
    states = [
        jnp.zeros((count, *some.states.shape[1:]), some.states.dtype) if part.states is None else part.states[:count]
        for part, count in zip(parts, counts, strict=True)
    ]
    found = {field: joined(field) for field in ("measured", "margins", "tokens")}
    return replace(some, selected=selected, impossible=impossible, states=jnp.concatenate(states), **found)
