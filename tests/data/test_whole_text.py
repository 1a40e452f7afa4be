"""Halves of characters in the texts of questions: refused where a question is read, whatever the source."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import check_questions, read_questions
from xmflow_jax.data.whole_text import is_whole
from xmflow_jax.errors import DataError

SOUND = Question("1", "cat", Path("cat.jpg"), "Is it red?", "yes", "task")
TEXTS = (
    *("question_id", "image_id", "text", "answer", "task", "true_option", "false_option", "central_object"),
    *("answer_type", "question_type", "scorer"),
)
HALVES = ["\ud83d", "red \udc00", "\ud800\ud800", "\udcff", "\udc00\ud800"]


@pytest.mark.parametrize("half", HALVES)
def test_a_half_is_no_whole_text(half: str) -> None:
    assert not is_whole(half)
    assert not is_whole(f"é{half}\U0001f600")


@pytest.mark.parametrize("text", ["", "red", "é赤\0\uffff", json.loads('"\\ud83d\\ude00"'), "\U0010ffff"])
def test_whole_texts(text: str) -> None:
    assert is_whole(text)
    assert is_whole(text) == (text.encode(errors="replace").decode() == text)  # what UTF-8 says of it


@pytest.mark.parametrize("field", TEXTS)
def test_every_text_of_a_record_is_looked_at(field: str) -> None:
    said = rf"number 1 of the data given: the {field.replace('_', ' ')} of question .* is 'a\\ud83d', which holds half"
    with pytest.raises(DataError, match=said):
        check_questions([SOUND, replace(SOUND, **{"question_id": "2", field: "a\ud83d"})])


def test_every_one_of_the_answers_is_looked_at() -> None:
    assert check_questions([replace(SOUND, answers=("\U0001f600", "no"))])
    with pytest.raises(DataError, match=r"the answers of question '1' is 'n\\udc00o'"):
        check_questions([replace(SOUND, answers=("yes", "n\udc00o"))])


def test_the_bytes_of_a_path_need_be_no_text() -> None:
    assert check_questions([replace(SOUND, image_path=Path("caf\udce9/cat.jpg"))])


VQA: dict[str, Any] = {"questions": [{"question_id": 1, "image_id": 5, "question": "Is it?"}]}
HUMAN: dict[str, Any] = {"annotations": [{"question_id": 1, "answers": [{"answer": "yes"}, {"answer": "no"}]}]}
GQA: dict[str, Any] = {
    "1": {"question": "Is it?", "imageId": "5", "answer": "yes", "types": {"semantic": "attr", "structural": "query"}}
}


def cut(document: Any, *keys: Any) -> Any:
    """The document with half of a character behind the text, or in place of the number, at these keys."""
    copied = json.loads(json.dumps(document))
    holder = copied
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = f"{holder[keys[-1]]}\ud83d"
    return copied


FILES = [
    *((cut(VQA, "questions", 0, key), HUMAN) for key in ("question", "image_id")),
    (cut(VQA, "questions", 0, "question_id"), cut(HUMAN, "annotations", 0, "question_id")),
    *((VQA, cut(HUMAN, "annotations", 0, "answers", place, "answer")) for place in (0, 1)),
    *((cut(GQA, "1", key), None) for key in ("question", "imageId", "answer")),
    (cut(GQA, "1", "types", "semantic"), None),
    ({"1\ud83d": GQA["1"]}, None),
]


@pytest.mark.parametrize("files", FILES)
def test_a_file_with_half_a_character_is_refused(tmp_path: Path, files: tuple[Any, Any]) -> None:
    paths = [tmp_path / name for name in ("q.json", "a.json")]
    for path, document in zip(paths, files, strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match=r"q\.json.*: the .* of question .*\\ud83d.* holds half of a character"):
        read_questions(paths[:1], tmp_path, None if files[1] is None else paths[1])


def test_a_half_where_nothing_is_read_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(json.dumps({"1": GQA["1"] | {"entailed": ["\ud83d"]}}), encoding="utf-8")
    assert read_questions([path], tmp_path)[0].text == "Is it?"
