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
from xmflow_jax.data.prompt import PreparedQuestion, bucket_without_image
from xmflow_jax.data.question import Question
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.run.folder import SET_ASIDE, RunFolder, finished_questions, read_skipped
from xmflow_jax.study.setting import PromptedModel

T = TypeVar("T")
U = TypeVar("U")

# Batches' worth of questions that are prepared while the engine works.
AHEAD: Final = 2


@dataclass(frozen=True, eq=False)
class BatchEntry:
    """A question of a batch.

    Attributes:
        question: the question.
        prompt: the question as the model reads it. A question that is done may stand with another one's prompt, where
            its own can no longer be made.
        done: whether the run folder holds its answer already.
    """

    question: Question
    prompt: PreparedQuestion
    done: bool


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A question with the padded shape that decides its batch; its prompt is None where it is done."""

    question: Question
    bucket: Bucket
    prompt: PreparedQuestion | None


@dataclass(frozen=True)
class _Progress:
    """The questions that need no more work, and those of them that were set aside, as `(task, question_id)`."""

    done: set[tuple[str, str]]
    aside: set[tuple[str, str]]


def _progress(run: RunFolder, others: Sequence[Path]) -> _Progress:
    skips = pd.concat([run.read_skipped(), *map(read_skipped, others)])
    skips = skips[skips["kind"] == SET_ASIDE]
    return _Progress(
        run.finished_questions().union(*map(finished_questions, others)),
        set(zip(skips["task"], skips["question_id"], strict=True)),
    )


def unanswered_batches(
    questions: Sequence[Question],
    prepare: Callable[[Question], PreparedQuestion],
    prompted: PromptedModel,
    batch_size: int,
    run: RunFolder,
    advance: Callable[[int], None],
    others: Sequence[Path] = (),
) -> Iterator[list[BatchEntry]]:
    """The batches of one task that hold a question whose answer is not in the run folder.

    What else is in a batch decides its padding, and so the last bits of its numbers. So the batches are those of an
    undisturbed run, whatever is done already; a batch whose questions are all done is left out, unread.

    Args:
        questions: the task's.
        prepare: a question as the model reads it; raises `QuestionSetAside`. Such a question lands in the run folder
            with its reason.
        prompted: tells how long the prompt of a question that is done is.
        batch_size: questions of a batch.
        run: the run folder.
        advance: told how many questions were set aside here.
        others: run folders beside it whose questions are done as well.
    """
    progress = _progress(run, others)

    def examine(question: Question) -> _Candidate | QuestionSetAside:
        key = (question.task, question.question_id)
        if key in progress.done and key not in progress.aside:
            known = bucket_without_image(question, prompted.processing, prompted.template)
            if known is not None:
                return _Candidate(question, known, None)
        # A question that was set aside for its output had a place in its batch; one without a prompt has none.
        try:
            prompt = prepare(question)
        except QuestionSetAside as reason:
            return reason
        return _Candidate(question, prompt.bucket, None if key in progress.done else prompt)

    def candidates() -> Iterator[_Candidate]:
        for question, examined in zip(questions, prepared_ahead(questions, examine, AHEAD * batch_size), strict=True):
            if isinstance(examined, _Candidate):
                yield examined
            elif (question.task, question.question_id) not in progress.done:
                run.append_skipped([skipped_row(question, SET_ASIDE, str(examined))])
                advance(1)

    for batch in in_batches(candidates(), batch_size, lambda one: one.bucket):
        if any(one.prompt is not None for one in batch):
            yield [BatchEntry(one.question, _prompt(one, batch, prepare), one.prompt is None) for one in batch]


def _prompt(
    one: _Candidate, batch: Sequence[_Candidate], prepare: Callable[[Question], PreparedQuestion]
) -> PreparedQuestion:
    """A candidate's prompt, made again where the question is done; any other of the batch where it cannot be made."""
    if one.prompt is not None:
        return one.prompt
    try:
        return prepare(one.question)
    except QuestionSetAside:
        return next(other.prompt for other in batch if other.prompt is not None)


def prepared_ahead(questions: Sequence[T], prepare: Callable[[T], U], ahead: int) -> Iterator[U]:
    """What `prepare` makes of the questions, in their order, made by another thread.

    Args:
        questions: any items.
        prepare: makes something of one question. What it raises is raised here, when that question's turn comes.
        ahead: how many are made before they are asked for.
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
    """The batches, unchanged.

    Args:
        waited: told for how many seconds each batch kept its reader waiting, and how long the end did; nothing where
            there is no batch.
    """
    iterator, begun = iter(batches), False
    while True:
        start = time.perf_counter()
        batch = next(iterator, None)
        if begun or batch is not None:
            waited(time.perf_counter() - start)
        if batch is None:
            return
        begun = True
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
