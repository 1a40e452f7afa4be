"""Answers questions with nothing blocked and lands their scores, batch by batch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.question import Question
from xmflow_jax.knockout.base_answers import BaseAnswers, answer_base
from xmflow_jax.machine.mappings import drop_programs_where_many
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.run.folder import SET_ASIDE, RunFolder
from xmflow_jax.scoring.answers import score_answer
from xmflow_jax.scoring.scorers import scorer_named
from xmflow_jax.study.batches import BatchEntry, skipped_row, timed, unanswered_batches
from xmflow_jax.study.evaluation_options import EvaluationOptions
from xmflow_jax.study.foreseen import Foreseen, Reading, check_images, check_usable, foresee, unmatched_lines
from xmflow_jax.study.inputs import Inputs, short_name, vouched_settings
from xmflow_jax.study.memory_fit import Bounds, Portion, within_memory
from xmflow_jax.study.setting import Batching, News, PromptedModel, prepare
from xmflow_jax.study.shown_images import (
    BLANK,
    SHUFFLED,
    Key,
    Prepare,
    key_of,
    shuffled_images,
    with_blank_images,
    with_shuffled_images,
)
from xmflow_jax.weights.load import ModelIdentity


def evaluation_configuration(options: EvaluationOptions, inputs: Inputs, identity: ModelIdentity) -> dict[str, Any]:
    """What decides an evaluation's results, as JSON values: it is resumed with an equal one alone.

    Raises:
        OptionError: a question names a scorer that there is not.
    """
    shared, scorers = options.shared, sorted({scorer_of(question, options) for question in inputs.questions})
    for name in scorers:
        scorer_named(name)
    return {
        "command": "evaluate",
        "model": {"name": short_name(shared.model), "digest": identity.digest, "dtype": identity.dtype},
        **vouched_settings(inputs.checkpoint),
        "data": inputs.digests(),
        "template": inputs.template.record(),
        "end_tokens": list(inputs.processing.end_tokens),
        "images": options.shown,
        "scorers": scorers,
        "samples": shared.samples,
        "seed": shared.seed,
        "answer_length": shared.answer_length,
    }


def scorer_of(question: Question, options: EvaluationOptions) -> str:
    """The name of the rule that the question's answer is scored by."""
    return options.scorer or question.scorer


def foreseen(
    options: EvaluationOptions,
    inputs: Inputs,
    anatomy: Anatomy,
    done: Collection[Key],
    say: Callable[[str], None],
) -> Foreseen:
    """What is known of the questions before any work.

    Args:
        done: `(task, question_id)` of those that need no more work.
        say: told of every file with gold answers that no answer can match.

    Raises:
        DataError: nothing can be used, and nothing was finished.
    """
    reading = Reading(inputs.processing, inputs.template, anatomy, options.shared.answer_length)
    scorer = partial(scorer_of, options=options)
    if not done:
        check_images(inputs.questions)
        check_usable(inputs.questions, reading)
    found = foresee(inputs.questions, done, reading, scorer)
    for line in unmatched_lines(found.unmatched, inputs.questions, inputs.file_of, scorer):
        say(line)
    return found


def by_task(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """The questions of each task, in their order: batches are of one task, as a sweep's are."""
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        tasks.setdefault(question.task, []).append(question)
    return tasks


def answer_questions(
    questions: Sequence[Question],
    options: EvaluationOptions,
    prompted: PromptedModel,
    batching: Batching,
    run: RunFolder,
    news: News,
) -> None:
    """Answer the questions that are not in the run folder yet; every batch lands as one part.

    Answers are those of a sweep's base run over the same questions with the same batch size: the same batches, padded
    in the same way, through the same programs.

    Args:
        questions: all of them, whatever is done already; blind baselines draw from all.
    """
    others = shuffled_images(questions, options.shared.seed) if options.shown == SHUFFLED else {}
    prepared: Prepare = partial(prepare, prompted=prompted)
    if options.shown == BLANK:
        prepared = with_blank_images(prepared)
    elif options.shown == SHUFFLED:
        prepared = with_shuffled_images(prepared, others)
    portion, bounds = Portion(batching.size), Bounds(batching.least_questions, 1, news.say)
    for own in by_task(questions).values():
        batches = unanswered_batches(own, prepared, prompted, batching.size, run, news.advance)
        for entries in timed(batches, news.waited):
            drop_programs_where_many()
            found, portion = _answer_batch([entry.prompt for entry in entries], prompted, portion, bounds)
            _land(entries, found, options, others, prompted, run)
            news.advance(sum(not entry.done for entry in entries))


def _answer_batch(
    prompts: Sequence[PreparedQuestion], prompted: PromptedModel, portion: Portion, bounds: Bounds
) -> tuple[BaseAnswers, Portion]:
    """A batch's answers, and what fitted the device's memory."""

    def answer(portion: Portion) -> BaseAnswers:
        parts = [
            answer_base(
                prompted.model.net,
                prompts[first : first + portion.questions],
                prompted.processing.end_tokens,
                prompted.answer_length,
                portion.questions,
            )
            for first in range(0, len(prompts), portion.questions)
        ]
        return BaseAnswers(*map(np.concatenate, zip(*parts, strict=True)))

    return within_memory(answer, portion, bounds)


def _land(
    entries: Sequence[BatchEntry],
    found: BaseAnswers,
    options: EvaluationOptions,
    others: Mapping[Key, Question],
    prompted: PromptedModel,
    run: RunFolder,
) -> None:
    """Land the answers of a batch's questions that are not done yet."""
    rows, aside = [], []
    for entry, tokens, finite in zip(entries, found.tokens, found.finite, strict=True):
        if entry.done:
            continue
        question, answer = entry.question, prompted.text_of(tokens)
        if finite:
            shown = None if options.shown == BLANK else others.get(key_of(question), question).image_id
            rows.append(answer_row(question, answer, shown, scorer_of(question, options)))
        else:
            aside.append(skipped_row(question, SET_ASIDE, "the model's output is not finite", answer))
    run.append_answers(rows)
    if aside:
        run.append_skipped(aside)


def answer_row(question: Question, answer: str, shown_image_id: str | None, scorer: str) -> dict[str, Any]:
    """The row of one answered question (`ANSWER_SCHEMA`).

    Args:
        shown_image_id: the image that the model saw; None for a blank one.
        scorer: the name of the rule that scores the answer.
    """
    return {
        "question_id": question.question_id,
        "image_id": question.image_id,
        "shown_image_id": shown_image_id,
        "task": question.task,
        "question_type": question.question_type,
        "answer_type": question.answer_type,
        "gold": question.answer,
        "answer": answer,
        "score": score_answer(question, answer, scorer),
        "scorer": scorer,
    }
