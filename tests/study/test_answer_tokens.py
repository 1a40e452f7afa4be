"""Which tokens stand for the two options of a question."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.data.question import Question
from xmflow_jax.study.answer_tokens import NO_TOKEN, option_tokens

QUESTION = Question(
    "007", "42", Path("42.jpg"), "Is it red or blue?", "red", "ChooseAttr", true_option="red", false_option="Blue"
)


IDS = {"red": 1, "Red": 2, "blue": 3, "Blue": 4, " red": 5, " Red": 6, " blue": 7, " Blue": 8, "\n": 9, " ": 10}


class Words:
    """A vocabulary in GPT-2's manner: a word behind a space is another piece; compounds begin with their first part."""

    unk_token_id = 0

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        if text.startswith("\n"):
            return [9, *self.encode(text[1:], False)] if text[1:] else [9]
        head = text if text in IDS else text.split("-")[0]
        return [IDS.get(head, 0), *([11] if "-" in text else [])] if text else []


def chosen(base_answer: str, base_token: int, **changes: Any) -> list[int]:
    return list(option_tokens(replace(QUESTION, **changes), base_answer, base_token, Words(), vocabulary=20))


@pytest.mark.parametrize(
    ("answer", "token", "expected"),
    [
        ("red", 1, [1, 3]),
        ("Blue", 4, [2, 4]),
        ("red", 5, [5, 7]),
        ("Red", 6, [6, 8]),
        ("green", 12, [1, 3]),  # neither of them
        ("", 12, [1, 3]),
    ],
)
def test_options_stand_and_are_spelt_as_the_base_answer(answer: str, token: int, expected: list[int]) -> None:
    assert chosen(answer, token) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"false_option": None},
        {"true_option": None},
        {"true_option": " "},
        {"false_option": "mauve"},  # a word that the vocabulary does not know
        {"false_option": "red-brown"},  # begins as the true one does
    ],
)
def test_without_two_different_tokens_there_is_no_margin(changes: dict[str, Any]) -> None:
    assert chosen("red", 1, **changes) == [NO_TOKEN, NO_TOKEN]
