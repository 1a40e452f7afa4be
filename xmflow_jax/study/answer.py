"""Answers one task's questions and lands their rows, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from xmflow_jax.data.batch import Bucket, in_batches, padded_length, prompt_bucket
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question, prompt_length
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.knockout.plan import build_study
from xmflow_jax.knockout.study_batch import answer_batch
from xmflow_jax.metrics.exact import exact_match
from xmflow_jax.models.gpt2 import Gpt2Config
from xmflow_jax.results import NOT_SELECTED, SET_ASIDE, RunFolder
from xmflow_jax.study.options import CORRECT, EVERY, WRONG
from xmflow_jax.study.plan import TaskStudy
from xmflow_jax.study.rows import question_rows
from xmflow_jax.weights.load import LoadedModel


@dataclass(frozen=True)
class Setting:
    """What all of a run's questions are answered with.

    Attributes:
        select: CORRECT, WRONG or EVERY.
        batch_size: questions at a time.
        answer_length: most tokens of a base answer.
    """

    model: LoadedModel
    processing: Processing
    template: Template
    engine: str
    select: str
    batch_size: int
    answer_length: int


@dataclass(frozen=True, eq=False)
class _Place:
    """A question's place in a batch; `prompt` is None where the run folder holds its answer already."""

    question: Question
    bucket: Bucket
    prompt: PreparedQuestion | None


def answer_task(study: TaskStudy, setting: Setting, run: RunFolder, advance: Callable[[int], None]) -> None:
    """Answer the questions that are not in the run folder yet; every batch lands as one part.

    Batches are those of an undisturbed run: what else is in a batch decides its padding, and so the last bits of its
    numbers. A batch whose questions are all done is not computed again.

    Args:
        advance: told how many more questions are done.
    """
    text = setting.model.config.text
    built = build_study([row.knockout for row in study.rows], text.layers, text.heads)
    done = run.finished_questions()
    skips = run.read_skipped()
    skips = skips[skips["kind"] == SET_ASIDE]
    aside = set(zip(skips["task"], skips["question_id"], strict=True))
    tokenizer = setting.processing.tokenizer

    def skipped(question: Question, kind: str, reason: str, base_answer: str = "") -> dict[str, Any]:
        return {
            "question_id": question.question_id,
            "task": question.task,
            "kind": kind,
            "reason": reason,
            "base_answer": base_answer,
        }

    def prepare(question: Question) -> PreparedQuestion:
        prompt = prepare_question(question, setting.processing, setting.template)
        check_length(prompt, setting)
        return prompt

    def again(place: _Place, places: Sequence[_Place]) -> PreparedQuestion:
        """A question that is done, for its place in a batch; another one's prompt if its image has gone since."""
        try:
            return prepare(place.question)
        except QuestionSetAside:
            return next(other.prompt for other in places if other.prompt is not None)

    def placed() -> Iterator[_Place]:
        for question in study.questions:
            key = (question.task, question.question_id)
            if key in done and key not in aside:
                length = prompt_length(question, setting.processing, setting.template)
                yield _Place(question, (padded_length(length), max(1, setting.template.images)), None)
                continue
            try:
                prompt = prepare(question)
            except QuestionSetAside as reason:
                if key not in done:
                    run.append_skipped([skipped(question, SET_ASIDE, str(reason))])
                    advance(1)
            else:
                yield _Place(question, prompt_bucket(prompt), None if key in done else prompt)

    for places in in_batches(placed(), setting.batch_size, lambda place: place.bucket):
        if all(place.prompt is None for place in places):
            continue
        prompts = [place.prompt or again(place, places) for place in places]
        answers: list[str] = []
        finite = np.ones(len(prompts), bool)

        def select(
            tokens: Int[np.ndarray, "batch step"],
            logits: Float[np.ndarray, "batch vocabulary"],
            prompts: list[PreparedQuestion] = prompts,
            answers: list[str] = answers,
            finite: Bool[np.ndarray, " batch"] = finite,
        ) -> Bool[np.ndarray, " batch"]:
            answers.extend(tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens)
            finite &= np.isfinite(logits).all(axis=-1)
            golds = [prompt.question.answer for prompt in prompts]
            right = np.array([exact_match(*pair) == 1.0 for pair in zip(answers, golds, strict=True)])
            return finite & {CORRECT: right, WRONG: ~right, EVERY: np.ones_like(right)}[setting.select]

        answered = answer_batch(
            setting.model.graphdef,
            setting.model.state,
            prompts,
            built,
            end_tokens(setting.processing),
            setting.answer_length,
            select,
            setting.engine,
            setting.batch_size,
        )
        rows, rest = [], []
        for place, prompt in enumerate(prompts):
            if places[place].prompt is None:
                continue
            question, answer, measured = prompt.question, answers[place], answered.measured
            if not finite[place]:
                rest.append(skipped(question, SET_ASIDE, "the model's output is not finite", answer))
            elif measured is None or not answered.selected[place]:
                rest.append(skipped(question, NOT_SELECTED, f"answered {answer!r} to {question.answer!r}", answer))
            elif not np.isfinite(measured.knockout_prob[place]).all():
                rest.append(skipped(question, SET_ASIDE, "the model's output under knockout is not finite", answer))
            else:
                impossible = answered.impossible[place]
                own = question_rows(question, answer, study.rows, impossible, measured, place, tokenizer.decode)
                if not own:
                    rest.append(skipped(question, SET_ASIDE, "none of the pathways exists in its prompt", answer))
                rows += own
        run.append_part(rows)
        if rest:
            run.append_skipped(rest)
        advance(sum(place.prompt is not None for place in places))


def check_length(prompt: PreparedQuestion, setting: Setting) -> None:
    """Learned positions end somewhere; an index beyond them would silently read the last one.

    Raises:
        QuestionSetAside: prompt and answer are longer than the model has positions for.
    """
    text = setting.model.config.text
    longest = len(prompt.token_ids) + setting.answer_length - 1
    if isinstance(text, Gpt2Config) and longest > text.positions:
        raise QuestionSetAside(
            f"its prompt of {len(prompt.token_ids)} tokens and an answer of up to {setting.answer_length} exceed the "
            f"model's {text.positions} positions"
        )


def end_tokens(processing: Processing) -> tuple[int, ...]:
    """Ids that end an answer."""
    return (int(processing.tokenizer.eos_token_id),)
