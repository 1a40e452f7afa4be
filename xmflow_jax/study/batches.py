"""The batches of one task that still hold unanswered questions, as an undisturbed run would make them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import pandas as pd

from xmflow_jax.data.batch import Bucket, in_batches
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, bucket_without_image
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.run.folder import SET_ASIDE, RunFolder, finished_questions, read_skipped

T = TypeVar("T")
U = TypeVar("U")

# Batches' worth of questions that are prepared while the engine works.
AHEAD: Final = 2


@dataclass(frozen=True, eq=False)
class Place:
    """A question's place in a batch; it is `done` where the run folder holds its answer already.

    The prompt of a question that is done is another one's where its own can no longer be made.
    """

    question: Question
    prompt: PreparedQuestion
    done: bool


@dataclass(frozen=True, eq=False)
class _Waiting:
    question: Question
    bucket: Bucket
    prompt: PreparedQuestion | None


def pending_batches(
    questions: Sequence[Question],
    prepare: Callable[[Question], PreparedQuestion],
    processing: Processing,
    template: Template,
    batch_size: int,
    run: RunFolder,
    advance: Callable[[int], None],
    others: Sequence[Path] = (),
) -> Iterator[list[Place]]:
    """One task's questions that the run folder does not hold, with those that stand beside them in a batch.

    What else is in a batch decides its padding, and so the last bits of its numbers: so the batches are those of an
    undisturbed run, whatever is done already. A batch whose questions are all done is left out, unread.

    Args:
        prepare: a question as the model reads it; raises `QuestionSetAside`. Such a question lands in the run folder
            with its reason.
        advance: told of the questions set aside here.
        others: run folders whose questions are done as well.
    """
    done = run.finished_questions().union(*map(finished_questions, others))
    skips = pd.concat([run.read_skipped(), *map(read_skipped, others)])
    skips = skips[skips["kind"] == SET_ASIDE]
    aside = set(zip(skips["task"], skips["question_id"], strict=True))

    def place(question: Question) -> _Waiting | QuestionSetAside:
        key = (question.task, question.question_id)
        known = bucket_without_image(question, processing, template) if key in done and key not in aside else None
        if known is not None:
            return _Waiting(question, known, None)
        # A question that was set aside for its output had a place in its batch; one without a prompt has none.
        try:
            prompt = prepare(question)
        except QuestionSetAside as reason:
            return reason
        return _Waiting(question, prompt.bucket, None if key in done else prompt)

    def waiting() -> Iterator[_Waiting]:
        for question, placed in zip(questions, prepared_ahead(questions, place, AHEAD * batch_size), strict=True):
            if isinstance(placed, _Waiting):
                yield placed
            elif (question.task, question.question_id) not in done:
                run.append_skipped([skipped_row(question, SET_ASIDE, str(placed))])
                advance(1)

    def again(one: _Waiting, batch: Sequence[_Waiting]) -> PreparedQuestion:
        try:
            return prepare(one.question)
        except QuestionSetAside:
            return next(other.prompt for other in batch if other.prompt is not None)

    for batch in in_batches(waiting(), batch_size, lambda one: one.bucket):
        if any(one.prompt is not None for one in batch):
            yield [Place(one.question, one.prompt or again(one, batch), one.prompt is None) for one in batch]


def prepared_ahead(questions: Sequence[T], prepare: Callable[[T], U], ahead: int) -> Iterator[U]:
    """What `prepare` makes of the questions, in their order: made by another thread, so many before they are asked for.

    What it raises is raised here, in its turn.
    """
    left = iter(questions)
    with ThreadPoolExecutor(1, "prepare") as thread:
        try:
            running = deque(thread.submit(prepare, question) for question in islice(left, ahead))
            while running:
                made = running.popleft().result()
                running.extend(thread.submit(prepare, question) for question in islice(left, 1))
                yield made
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def timed(batches: Iterable[T], waited: Callable[[float], None]) -> Iterator[T]:
    """The batches; `waited` is told for how many seconds each of them kept its reader waiting."""
    iterator = iter(batches)
    while True:
        start = time.perf_counter()
        batch = next(iterator, None)
        waited(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


def waiting_line(waits: Sequence[float], seconds: float) -> str:
    """For people: how much of its time the engine waited for questions and images.

    Args:
        waits: what `timed` told.
        seconds: the whole time.
    """
    return (
        f"the engine waited for questions and images {sum(waits):.1f} s of {seconds:.1f} s ({sum(waits) / seconds:.1%})"
    )


def skipped_row(question: Question, kind: str, reason: str, base_answer: str = "") -> dict[str, str]:
    """What a run folder remembers of a question without rows (`SKIPPED_SCHEMA`)."""
    return {
        "question_id": question.question_id,
        "task": question.task,
        "kind": kind,
        "reason": reason,
        "base_answer": base_answer,
    }
