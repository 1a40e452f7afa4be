"""Texts of questions that no table can hold: halves of characters, which JSON can write and Unicode text has not.

`"\\ud83d\\ude00"` in a JSON file is one character in two halves; a text that was cut between them keeps `"\\ud83d"`, a
lone surrogate. It is no Unicode text: neither UTF-8, nor a Parquet file, nor a tokenizer takes it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from xmflow_jax.data.question import Question
from xmflow_jax.errors import DataError

_MOST_SHOWN: Final = 80


def check_texts(questions: Iterable[Question], where: str) -> None:
    """Do nothing for questions all of whose texts are whole.

    Args:
        where: the file, or whatever else the questions are from, for messages.

    Raises:
        DataError: one holds half of a character.
    """
    for question in questions:
        for name, text in _texts(question):
            if not is_whole(text):
                told = repr(text) if len(repr(text)) <= _MOST_SHOWN else f"{repr(text)[:_MOST_SHOWN]} ..."
                raise DataError(
                    f"{where}: the {name} of question {question.question_id!r} is {told}, which holds half of a "
                    "character (a lone surrogate); expected Unicode text"
                )


def is_whole(text: str) -> bool:
    """Whether a text has no lone surrogate in it."""
    # Nearly all texts are ASCII, which takes no look at their characters.
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _texts(question: Question) -> Iterator[tuple[str, str]]:
    """Every text of a question and what it is, for people. A path may have bytes that are no text."""
    for name, value in vars(question).items():
        words = name.replace("_", " ")
        if isinstance(value, str):
            yield words, value
        elif name == "answers":
            yield from (("answers", one) for one in value)
