"""The text of a question alone must not give its answer away.

Three readers of the text try: counts of every form's answers, the commonest answer to the very same question, and a
classifier. None may do better than chance, which is one over the number of answers that the form allows. The scenes
are those of one fixed seed, so the statistics below are the same in every run.
"""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from tests.data.sources.shapes.text_guessers import form_of, label_of, majority_accuracy, naive_bayes_accuracy
from xmflow_jax.data.sources.shapes.questions import Asked
from xmflow_jax.data.sources.shapes.source import drawn_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS

TRAIN, TEST = 20_000, 5_000
POINTS = 0.02

# How many answers a form allows, by how its text begins.
ALLOWED = {
    "Is the ": 2,
    "Is there ": 2,
    "On which side": 2,
    "What size": 2,
    "What texture": 2,
    "What do": 3,
    "What shape": 5,
    "What color": 6,
}


def allowed(asked: Asked) -> int:
    (count,) = (count for beginning, count in ALLOWED.items() if asked.text.startswith(beginning))
    return count


def chance(questions: list[Asked]) -> float:
    return float(np.mean([1 / allowed(asked) for asked in questions]))


def planted(questions: list[Asked]) -> list[Asked]:
    """As if both expressions of a question could have one colour, oftener where both are there."""
    generator = np.random.default_rng(0)
    leaky = []
    for asked in questions:
        if generator.random() < {"yes": 0.3, "no": 0.1}[asked.answer]:
            first, second = asked.text.removeprefix("Is there a ").removesuffix("?").split(" and a ")
            text = f"Is there a {first} and a {first.split()[0]} {second.split()[1]}?"
            asked = replace(asked, text=text)
        leaky.append(asked)
    return leaky


@pytest.fixture(name="questions", scope="module")
def fixture_questions() -> dict[str, list[Asked]]:
    drawn: dict[str, list[Asked]] = defaultdict(list)
    for question in drawn_questions("train", TRAIN + TEST, seed=11):
        drawn[question.asked.task].append(question.asked)
    return drawn


def test_every_form_has_its_answers_equally_often(questions: dict[str, list[Asked]]) -> None:
    """Which option is true (the first in half the cases), yes and no, attributes, sides: within four deviations."""
    for task in STUDY_TASKS:
        forms: dict[str, Counter[str]] = defaultdict(Counter)
        count_of: dict[str, int] = {}
        for asked in questions[task]:
            form = form_of(asked.text)
            forms[form][label_of(asked)] += 1
            count_of[form] = allowed(asked)
        for form, counts in forms.items():
            total, share = sum(counts.values()), 1 / count_of[form]
            assert len(counts) == count_of[form], form
            deviation = np.sqrt(total * share * (1 - share))
            assert max(abs(count - total * share) for count in counts.values()) < 4 * deviation, (form, counts)


def test_forms_are_few_and_large(questions: dict[str, list[Asked]]) -> None:
    """Else the test before this one would see nothing."""
    sizes = {task: Counter(form_of(asked.text) for asked in questions[task]) for task in STUDY_TASKS}
    assert {task: len(counts) for task, counts in sizes.items()} == {
        "ChooseAttr": 2,
        "ChooseCat": 1,
        "QueryAttr": 5,
        "LogicalObj": 1,
        "ChooseRel": 6,
        "CompareAttr": 2,
    }
    assert all(min(counts.values()) > 1_000 for counts in sizes.values())


@pytest.mark.parametrize("task", STUDY_TASKS)
def test_the_commonest_answer_to_the_same_question_is_no_better_than_chance(
    questions: dict[str, list[Asked]], task: str
) -> None:
    train, test = questions[task][:TRAIN], questions[task][TRAIN:]
    assert majority_accuracy(train, test) <= chance(test) + POINTS


@pytest.mark.parametrize("task", STUDY_TASKS)
def test_a_text_classifier_is_no_better_than_chance(questions: dict[str, list[Asked]], task: str) -> None:
    train, test = questions[task][:TRAIN], questions[task][TRAIN:]
    assert naive_bayes_accuracy(train, test) <= chance(test) + POINTS


def test_the_guessers_find_a_planted_leak(questions: dict[str, list[Asked]]) -> None:
    leaky = planted(questions["LogicalObj"])
    train, test = leaky[:TRAIN], leaky[TRAIN:]
    assert majority_accuracy(train, test) > 0.5 + 2 * POINTS
    assert naive_bayes_accuracy(train, test) > 0.5 + 2 * POINTS
    assert len({form_of(asked.text) for asked in leaky}) == 2
