"""How much is computed at a time: a whole batch, or where that does not fit a device's memory, a smaller portion.

A portion becomes smaller by fewer questions first, then by fewer knockouts. What a compiled program takes is known
before it runs (`xmflow_jax.machine.memory`) and says how small the portion must be. Where a device runs out of memory
all the same, half as much is tried. The batch itself stays as it is, and so do its rows but for their last bits.
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
class Portion:
    """What is computed at a time.

    Attributes:
        questions: the most questions, the same number on every device.
        pieces: into how many pieces the study's knockouts are cut, computed one after the other.
    """

    questions: int
    pieces: int = 1


@dataclass(frozen=True)
class Bounds:
    """How small a portion can become, and who is told that it does.

    Attributes:
        least_questions: the fewest questions at a time: one for each device with questions of its own.
        most_pieces: the number of the study's knockouts, each of which can be computed alone.
        say: told a line whenever a smaller portion is tried.
    """

    least_questions: int = 1
    most_pieces: int = 1
    say: Callable[[str], None] = lambda line: None


T = TypeVar("T")

# (questions of a batch, number of the piece of the study, portion) -> their answers under that piece.
Answer = Callable[[slice, int, Portion], Answered]


def answer_within_memory(answer: Answer, count: int, portion: Portion, bounds: Bounds) -> tuple[Answered, Portion]:
    """Answer a whole batch under a whole study, a portion at a time.

    Args:
        answer: answers some questions of the batch under one of the pieces of the study.
        count: questions of the batch.
        portion: what is tried first.
        bounds: how far less may be tried.

    Returns:
        The batch's answers, put together, and the portion that fitted.

    Raises:
        OptionError: not even one configuration of the fewest questions fits.
    """
    return within_memory(lambda portion: _answer(answer, count, portion), portion, bounds)


def within_memory(work: Callable[[Portion], T], portion: Portion, bounds: Bounds) -> tuple[T, Portion]:
    """Work with the largest portion that fits: where memory ends, with a smaller one again.

    Args:
        work: computes with the portion at a time that it is given.
        portion: what is tried first.
        bounds: how far less may be tried.

    Returns:
        What the work gave, and the portion that fitted.

    Raises:
        OptionError: not even one configuration of the fewest questions fits.
    """
    while True:
        try:
            return work(portion), portion
        except (MemoryShort, jax.errors.JaxRuntimeError) as error:
            short = _short(error)
        smaller = _smaller(portion, short.factor, bounds)
        if smaller is None:
            raise OptionError(
                f"the device's memory holds not even one configuration of {bounds.least_questions} question(s) beside "
                "the model; spread the model over several devices (--mesh model=M) or take --dtype bfloat16"
            )
        portion = smaller
        bounds.say(
            f"{short.why}; going on with {portion.questions} question(s) at a time"
            + (f" and the configurations in {portion.pieces} pieces" if portion.pieces > 1 else "")
        )


def check_within_memory(check: Callable[[int], None], portion: Portion, bounds: Bounds) -> Portion:
    """Check the engines with as many questions at a time as fit; where none fit, give the check up and say so.

    Args:
        check: checks the engines with the number of questions at a time that it is given.
        portion: what is tried first.
        bounds: how far fewer questions may be tried.

    Returns:
        The portion that fitted, or the smallest one.
    """
    while True:
        try:
            check(portion.questions)
            return portion
        except (MemoryShort, jax.errors.JaxRuntimeError) as error:
            short = _short(error)
        if portion.questions <= bounds.least_questions:
            bounds.say("the engines are not checked: the device's memory is too small for the plain one")
            return portion
        # One configuration cannot be halved: fewer questions are all there is.
        portion = _smaller(portion, short.factor, replace(bounds, most_pieces=1)) or portion
        bounds.say(f"{short.why}; going on with {portion.questions} question(s) at a time")


@dataclass(frozen=True)
class _Short:
    """How memory was too small.

    Attributes:
        factor: what was needed, over what was free.
        why: for people.
    """

    factor: float
    why: str


def _short(error: MemoryShort | jax.errors.JaxRuntimeError) -> _Short:
    """The error as how memory was too small; an error about something else is raised again."""
    if isinstance(error, MemoryShort):
        needed, free = (f"{one / 2**30:.3g} GiB" for one in (error.needed, error.free))
        why = f"a compiled program needs {needed} and the device has {free} free"
        return _Short(error.needed / max(error.free, 1), why)
    if OUT_OF_MEMORY not in str(error):
        raise error
    return _Short(2.0, "the device's memory is too small for this")


def _smaller(portion: Portion, factor: float, bounds: Bounds) -> Portion | None:
    """A portion smaller by the factor or more, in halves: fewer questions first, then more pieces.

    `Portion(8)` by a factor of 3 is `Portion(2)`; `Portion(1)` by 2 is `Portion(1, pieces=2)`.

    Returns:
        None where the bounds allow none that is smaller.
    """
    smaller = portion
    while factor > 1:
        if smaller.questions > bounds.least_questions:
            # Still a multiple of the fewest.
            half = smaller.questions // 2 // bounds.least_questions * bounds.least_questions
            smaller = replace(smaller, questions=max(bounds.least_questions, half))
        elif smaller.pieces < bounds.most_pieces:
            smaller = replace(smaller, pieces=min(bounds.most_pieces, 2 * smaller.pieces))
        else:
            break
        factor /= 2
    return None if smaller == portion else smaller


def _answer(answer: Answer, count: int, portion: Portion) -> Answered:
    """A batch's answers, computed a portion at a time and put together."""
    parts = []
    for first in range(0, count, portion.questions):
        some = slice(first, min(count, first + portion.questions))
        parts.append(_beside([answer(some, piece, portion) for piece in range(portion.pieces)]))
    return parts[0] if len(parts) == 1 else _below(parts, [len(part.selected) for part in parts])


def pieces_of(rows: Sequence[Any], pieces: int) -> list[Sequence[Any]]:
    """The rows cut into consecutive pieces of about the same length: 5 rows in 2 pieces are 2 and 3."""
    bounds = np.linspace(0, len(rows), pieces + 1).astype(int)
    return [rows[first:last] for first, last in pairwise(bounds)]


def _beside(pieces: Sequence[Answered]) -> Answered:
    """The same questions' answers under all pieces of the study, put side by side along the knockouts."""
    first = pieces[0]
    if len(pieces) == 1 or first.measured is None:
        return first

    def joined(field: str) -> Any:
        own = [getattr(piece, field) for piece in pieces]
        if own[0] is None or isinstance(own[0], np.ndarray):
            return None if own[0] is None else np.concatenate(own, axis=1)
        # Fields of the base run have no axis of knockouts, and are the same in all pieces.
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
    """Groups of questions put one below the other.

    A group of which no question was selected has no measures: zeros stand in for them, which nobody reads.

    Args:
        counts: how many questions each group has.
    """
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
