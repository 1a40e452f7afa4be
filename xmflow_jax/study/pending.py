"""The batches of one task that still hold unanswered questions, as an undisturbed run would make them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xmflow_jax.data.batch import Bucket, in_batches, padded_length, prompt_bucket
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prompt_length
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.results import SET_ASIDE, RunFolder


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
) -> Iterator[list[Place]]:
    """One task's questions that the run folder does not hold, with those that stand beside them in a batch.

    What else is in a batch decides its padding, and so the last bits of its numbers: so the batches are those of an
    undisturbed run, whatever is done already. A batch whose questions are all done is left out, unread.

    Args:
        prepare: a question as the model reads it; raises `QuestionSetAside`. Such a question lands in the run folder
            with its reason.
        advance: told of the questions set aside here.
    """
    done = run.finished_questions()
    skips = run.read_skipped()
    skips = skips[skips["kind"] == SET_ASIDE]
    aside = set(zip(skips["task"], skips["question_id"], strict=True))

    def waiting() -> Iterator[_Waiting]:
        for question in questions:
            key = (question.task, question.question_id)
            if key in done and key not in aside:
                length = prompt_length(question, processing, template)
                yield _Waiting(question, (padded_length(length), max(1, template.images)), None)
                continue
            # A question that was set aside for its output had a place in its batch; one without a prompt has none.
            try:
                prompt = prepare(question)
            except QuestionSetAside as reason:
                if key not in done:
                    run.append_skipped([skipped_row(question, SET_ASIDE, str(reason))])
                    advance(1)
            else:
                yield _Waiting(question, prompt_bucket(prompt), None if key in done else prompt)

    def again(one: _Waiting, batch: Sequence[_Waiting]) -> PreparedQuestion:
        try:
            return prepare(one.question)
        except QuestionSetAside:
            return next(other.prompt for other in batch if other.prompt is not None)

    for batch in in_batches(waiting(), batch_size, lambda one: one.bucket):
        if any(one.prompt is not None for one in batch):
            yield [Place(one.question, one.prompt or again(one, batch), one.prompt is None) for one in batch]


def skipped_row(question: Question, kind: str, reason: str, base_answer: str = "") -> dict[str, str]:
    """What a run folder remembers of a question without rows (`SKIPPED_SCHEMA`)."""
    return {
        "question_id": question.question_id,
        "task": question.task,
        "kind": kind,
        "reason": reason,
        "base_answer": base_answer,
    }
