"""Answers questions with nothing blocked and lands their scores, batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.knockout.base_answers import BaseAnswers, answer_base
from xmflow_jax.run.folder import SET_ASIDE, RunFolder
from xmflow_jax.scoring.answers import score_answer
from xmflow_jax.scoring.scorers import scorer_named
from xmflow_jax.study.answer import Setting, check_prompt
from xmflow_jax.study.batches import Place, pending_batches, skipped_row, timed
from xmflow_jax.study.evaluation_options import EvaluationOptions
from xmflow_jax.study.inputs import Inputs, short_name
from xmflow_jax.study.memory_fit import Fit, as_fits
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
        "data": inputs.digests(),
        "template": asdict(inputs.template),
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


def by_task(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Batches are of one task, as a sweep's are."""
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        tasks.setdefault(question.task, []).append(question)
    return tasks


def answer_questions(
    questions: Sequence[Question],
    options: EvaluationOptions,
    setting: Setting,
    run: RunFolder,
    advance: Callable[[int], None],
) -> None:
    """Answer the questions that are not in the run folder yet; every batch lands as one part.

    Answers are those of a sweep's base run over the same questions with the same batch size: the same batches, padded
    in the same way, through the same programs.

    Args:
        questions: all of them, whatever is done already; blind baselines draw from all.
        advance: told how many more questions are done.
    """
    others = shuffled_images(questions, options.shared.seed) if options.shown == SHUFFLED else {}

    def as_asked(question: Question) -> PreparedQuestion:
        prompt = prepare_question(question, setting.processing, setting.template)
        check_prompt(prompt, setting)
        return prompt

    prepare: Prepare = as_asked
    if options.shown == BLANK:
        prepare = with_blank_images(as_asked)
    elif options.shown == SHUFFLED:
        prepare = with_shuffled_images(as_asked, others)
    fit = setting.fit or Fit(setting.batch_size)
    for own in by_task(questions).values():
        given = (setting.processing, setting.template, setting.batch_size)
        for places in timed(pending_batches(own, prepare, *given, run, advance), setting.waited):
            fit = _answer_batch(places, options, others, setting, run, fit)
            advance(sum(not place.done for place in places))


def _answer_batch(
    places: Sequence[Place],
    options: EvaluationOptions,
    others: dict[Key, Question],
    setting: Setting,
    run: RunFolder,
    fit: Fit,
) -> Fit:
    """Returns what fitted the device's memory."""
    prompts = [place.prompt for place in places]

    def answer_some(fit: Fit) -> BaseAnswers:
        parts = [
            answer_base(
                setting.model.graphdef,
                setting.model.state,
                prompts[first : first + fit.questions],
                setting.processing.end_tokens,
                setting.answer_length,
                fit.questions,
            )
            for first in range(0, len(prompts), fit.questions)
        ]
        return BaseAnswers(*map(np.concatenate, zip(*parts, strict=True)))

    found, fit = as_fits(answer_some, fit, setting.least_questions, 1, setting.say)
    rows, aside = [], []
    for place, tokens, finite in zip(places, found.tokens, found.finite, strict=True):
        if place.done:
            continue
        question = place.question
        answer = str(setting.processing.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
        if not finite:
            aside.append(skipped_row(question, SET_ASIDE, "the model's output is not finite", answer))
            continue
        shown = None if options.shown == BLANK else others.get(key_of(question), question).image_id
        scorer = scorer_of(question, options)
        rows.append(
            {
                "question_id": question.question_id,
                "image_id": question.image_id,
                "shown_image_id": shown,
                "task": question.task,
                "question_type": question.question_type,
                "answer_type": question.answer_type,
                "gold": question.answer,
                "answer": answer,
                "score": score_answer(question, answer, scorer),
                "scorer": scorer,
            }
        )
    run.append_answers(rows)
    if aside:
        run.append_skipped(aside)
    return fit
