"""From a question and its answer to a score by a named rule, and to what a benchmark's server takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources import gqa_json, vqa_json
from xmflow_jax.scoring.scorers import scorer_named
from xmflow_jax.scoring.submission import gqa_results, is_vqa_id, vqa_results


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


def can_match(question: Question, scorer: str) -> bool:
    """Whether any answer can score a point; True where there is no gold answer.

    No rule makes of a gold answer what it would not make of the same answer of a model's, so that it is enough to try
    the gold answers themselves, without surrounding space, as a model's answers are decoded.

    Args:
        scorer: the rule's name.

    Raises:
        OptionError: there is no rule of this name.
    """
    golds = gold_answers(question)
    rule = scorer_named(scorer)
    return not golds or any(rule.score(gold.strip(), golds) > 0 for gold in dict.fromkeys(golds))


def submission(questions: Sequence[Question], answers: Mapping[tuple[str, str], str]) -> list[dict[str, Any]] | None:
    """What a benchmark's server takes, in the order of the questions; None where they are not all of one of them.

    Args:
        answers: by `(task, question_id)`; questions without one are left out.
    """
    scorers = {question.scorer for question in questions}
    asked = {one.question_id: (one.task, one.question_id) for one in questions}
    if len(asked) < len(questions):  # They are of several sets, each with a server of its own.
        return None
    given = [(question_id, answers[key]) for question_id, key in asked.items() if key in answers]
    if scorers == {vqa_json.SCORER} and all(map(is_vqa_id, asked)):
        return vqa_results(given)
    if scorers == {gqa_json.SCORER}:
        return gqa_results(given)
    return None
