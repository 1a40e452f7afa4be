"""Every question must mean exactly the things that it says it means, and its answer must be true of them."""

from collections import Counter

import pytest

from tests.data.sources.shapes.answerer import ATTRIBUTES, answer, expressions, named, options
from xmflow_jax.data.sources.shapes.source import DrawnQuestion, drawn_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS

OFFER_OPTIONS = ("ChooseAttr", "ChooseCat", "ChooseRel")


@pytest.fixture(name="questions", scope="module")
def fixture_questions() -> list[DrawnQuestion]:
    return list(drawn_questions("validation", 1_000, seed=3))


def test_answers_are_true(questions: list[DrawnQuestion]) -> None:
    for question in questions:
        assert answer(question.asked.text, question.scene.things) == question.asked.answer


def test_questions_mean_the_things_they_list(questions: list[DrawnQuestion]) -> None:
    for question in questions:
        asked, things = question.asked, question.scene.things
        meant = [named(expression, things) for expression in expressions(asked.text)]
        assert all(len(indices) == 1 for indices in meant) or asked.answer == "no"
        listed = [index for indices in meant for index in indices]
        if asked.task == "LogicalObj":  # the thing that is there comes first, whatever the wording
            assert sorted(listed) == sorted(asked.things)
        else:
            assert listed == list(asked.things)
        assert len(question.boxes) == (1 if asked.answer == "no" or len(meant) == 1 else 2)


def test_names_stand_in_the_question_and_mean_the_first_thing(questions: list[DrawnQuestion]) -> None:
    for question in questions:
        asked = question.asked
        (expression,) = (
            text for text in expressions(asked.text) if named(text, question.scene.things) == [asked.things[0]]
        )
        assert asked.name == ("object" if expression.endswith(" object") else expression)


def test_options_are_the_two_that_are_offered(questions: list[DrawnQuestion]) -> None:
    for question in questions:
        asked = question.asked
        if asked.task in OFFER_OPTIONS:
            assert asked.true_option == asked.answer != asked.false_option
            assert sorted(options(asked.text)) == sorted((asked.answer, str(asked.false_option)))
        else:
            assert (asked.true_option, asked.false_option) == (None, None)
            assert options(asked.text) == ()


def test_every_form_and_every_answer_occurs(questions: list[DrawnQuestion]) -> None:
    answers = {task: Counter(one.asked.answer for one in questions if one.asked.task == task) for task in STUDY_TASKS}
    looks = ATTRIBUTES["color"] | ATTRIBUTES["size"] | ATTRIBUTES["texture"]
    assert {task: set(counts) for task, counts in answers.items()} == {
        "ChooseAttr": looks,
        "ChooseCat": ATTRIBUTES["shape"],
        "QueryAttr": looks | ATTRIBUTES["shape"] | {"left", "right"},
        "LogicalObj": {"yes", "no"},
        "ChooseRel": {"left", "right", "above", "below"},
        "CompareAttr": set(ATTRIBUTES),
    }
    assert all(sum(counts.values()) == 1_000 for counts in answers.values())
