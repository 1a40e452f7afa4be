"""Questions that are not read from files: a user's own, and what tells two sets of them apart."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.sources.files import check_questions, questions_digest
from xmflow_jax.errors import DataError

ONE = Question("1", "a", Path("somewhere/a.png"), "Is it red?", "yes", "Color")
OTHER = replace(ONE, question_id="2", boxes=(Box(1, 2, 3, 4),), answers=("yes", "yeah"))


def test_any_iterable_of_questions_is_a_source() -> None:
    assert check_questions(iter([ONE, OTHER])) == (ONE, OTHER)
    assert check_questions([ONE, replace(ONE, task="Shade")])[1].task == "Shade"  # ids may repeat across tasks


@pytest.mark.parametrize(
    ("questions", "complaint"),
    [
        ([], "there are no questions in the data given"),
        ([ONE, "a.csv"], "number 1 of the data given is 'a.csv'; expected a Question"),
        ([ONE, OTHER, ONE], "question id '1' of task Color is there twice"),
    ],
)
def test_what_is_no_source(questions: list[Any], complaint: str) -> None:
    with pytest.raises(DataError) as caught:
        check_questions(questions)
    assert str(caught.value) == complaint


def test_the_digest_tells_every_field_and_the_order_but_not_the_folder() -> None:
    changes: dict[str, Any] = {
        "question_id": "3",
        "image_id": "b",
        "image_path": Path("somewhere/b.png"),
        "text": "Is it  red?",
        "answer": "no",
        "task": "Shade",
        "true_option": "red",
        "false_option": "blue",
        "central_object": "it",
        "boxes": (Box(1, 2, 3, 4), Box(1, 2, 4, 3)),
        "image_size": (3, 4),
        "answers": ("yes",),
        "answer_type": "yes/no",
        "question_type": "is it",
        "scorer": "vqa",
    }
    assert set(changes) == {field.name for field in fields(Question)}
    sets = [
        [ONE],
        [],
        [ONE, OTHER],
        [OTHER, ONE],
        *([replace(ONE, **{name: value})] for name, value in changes.items()),
    ]
    assert len({questions_digest(one) for one in sets}) == len(sets)
    assert questions_digest([replace(ONE, image_path=Path("elsewhere/a.png"))]) == questions_digest([ONE])
