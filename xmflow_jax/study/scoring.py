"""From a question and its answer to a score by a named rule, and to what a benchmark's server takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from xmflow_jax.data import gqa_json, vqa_json
from xmflow_jax.data.question import Question
from xmflow_jax.metrics.scorers import scorer_named


def gold_answers(question: Question) -> tuple[str, ...]:
    """What the question's answer is scored against; nothing where a test set keeps its answers back."""
    return question.answers or ((question.answer,) if question.answer else ())


def score_answer(question: Question, answer: str, scorer: str) -> float | None:
    """0 to 1; None where there is no gold answer.

    Args:
        scorer: the rule's name.

    Raises:
        OptionError: there is no rule of this name.
    """
    golds = gold_answers(question)
    return scorer_named(scorer).score(answer, golds) if golds else None


def submission(questions: Sequence[Question], answers: Mapping[tuple[str, str], str]) -> list[dict[str, Any]] | None:
    """What a benchmark's server takes, in the order of the questions; None where they are not all of one of them.

    Args:
        answers: by `(task, question_id)`; questions without one are left out.
    """
    scorers = {question.scorer for question in questions}
    given = [(one, answers[one.task, one.question_id]) for one in questions if (one.task, one.question_id) in answers]
    if scorers == {vqa_json.SCORER}:
        return [
            {"question_id": int(one.question_id) if one.question_id.isdecimal() else one.question_id, "answer": answer}
            for one, answer in given
        ]
    if scorers == {gqa_json.SCORER}:
        return [{"questionId": one.question_id, "prediction": answer} for one, answer in given]
    return None
