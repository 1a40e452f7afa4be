"""Reads the question and annotation files of VQA v2 and OK-VQA, which share one layout.

Source: the files that visualqa.org and okvqa.allenai.org publish, as GT-Vision-Lab/VQA reads them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.image_folders import COCO_SUBFOLDERS, COCO_SUBSETS, coco_names, image_finder, image_names
from xmflow_jax.data.sources.json_documents import counted, read_json_document
from xmflow_jax.data.whole_text import check_texts
from xmflow_jax.errors import DataError

VQA_V2: Final = "vqa_v2"
OK_VQA: Final = "ok_vqa"
OTHER: Final = "vqa"
SCORER: Final = "vqa"

_SUBSET_NAME: Final = re.compile(r"train2014|val2014|test-dev2015|test2015")


def read_vqa_json(path: Path, annotations: Path | None, images: Path, task: str | None = None) -> list[Question]:
    """The questions of one file, in its order, with their human answers.

    An annotation file may hold more questions than are asked, so that a part of the questions can be picked. `answer`
    is the `multiple_choice_answer`, else the most frequent of the answers.

    Args:
        path: `{questions: [{question_id, image_id, question}]}`.
        annotations: `{annotations: [{question_id, answers: [{answer}]}]}`, each with `image_id`, `question_type`,
            `answer_type` and `multiple_choice_answer` where the file tells them; None for a test set, whose answers
            are kept back.
        images: the folder of the `COCO_val2014_000000262148.jpg`, which since 2017 are named `000000262148.jpg`, or of
            `val2014` and its like. They need not exist.
        task: what to call the data set; by default `vqa_v2`, `ok_vqa` or `vqa` by what the files hold.

    Raises:
        DataError: a file is missing, truncated, of another layout, or lacks a value; a question id is there twice; a
            text holds half of a character; the files are of different subsets or do not fit each other; training or
            validation questions lack annotations.
    """
    return vqa_questions(read_json_document(path), path, annotations, images, task)


def vqa_questions(
    document: Mapping[str, Any], path: Path, annotations: Path | None, images: Path, task: str | None = None
) -> list[Question]:
    """As `read_vqa_json`, of a file that is read already."""
    asked = _entries(document, "questions", path)
    subset = _subset(document, path)
    answered: Mapping[str, _Annotation] = {}
    if annotations is not None:
        answered = _read_annotations(annotations, subset, path)
        _check_match(asked, answered, path, annotations)
    elif subset is None or not subset.startswith("test"):
        named = "" if subset is None else f" of {subset}"
        raise DataError(f"{path}: questions{named} are scored against human answers; name their file: --annotations")
    if task is None:
        from_answers = any(annotation.is_ok_vqa for annotation in answered.values())
        task = OK_VQA if from_answers else VQA_V2 if _is_version_2(document, path) else OTHER
    find = image_finder(images, COCO_SUBFOLDERS)
    questions = []
    for entry in asked:
        question_id, text = str(entry["question_id"]), entry["question"]
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: the text of question {question_id} is {text!r}; expected words")
        human = answered.get(question_id, _KEPT_BACK)
        questions.append(
            Question(
                question_id=question_id,
                image_id=str(entry["image_id"]),
                image_path=find(_image_names(str(entry["image_id"]), subset)),
                text=text,
                answer=human.answer,
                task=task,
                answers=human.answers,
                answer_type=human.answer_type,
                question_type=human.question_type,
                scorer=SCORER,
            )
        )
    check_texts(questions, str(path if annotations is None else f"{path} with {annotations}"))
    return questions


@dataclass(frozen=True)
class _Annotation:
    """What an annotation file tells of one question."""

    answer: str
    answers: tuple[str, ...]
    answer_type: str | None = None
    question_type: str | None = None
    image_id: str | None = None
    is_ok_vqa: bool = False


_KEPT_BACK: Final = _Annotation("", ())


def _read_annotations(path: Path, subset: str | None, questions: Path) -> dict[str, _Annotation]:
    document = read_json_document(path)
    entries = _entries(document, "annotations", path)
    own = _subset(document, path)
    if own is not None and subset is not None and own != subset:
        raise DataError(f"{path}: annotations of {own}, but the questions in {questions} are of {subset}")
    return {str(entry["question_id"]): _annotation(entry, path) for entry in entries}


def _annotation(entry: Mapping[str, Any], path: Path) -> _Annotation:
    where = f"{path}: the annotation of question {entry['question_id']}"
    answers = entry["answers"]
    if not isinstance(answers, list) or not answers:
        raise DataError(f"{where} has the answers {answers!r}; expected a list of one or more")
    for one in answers:
        if not isinstance(one, dict) or not isinstance(one.get("answer"), str):
            raise DataError(f'{where} has the answer {one!r}; expected an object such as {{"answer": "cat"}}')
    texts: list[str] = [one["answer"] for one in answers]

    def optional(key: str) -> str | None:
        value = entry.get(key)
        return None if value is None else str(value)

    return _Annotation(
        answer=optional("multiple_choice_answer") or Counter(texts).most_common(1)[0][0],
        answers=tuple(texts),
        answer_type=optional("answer_type"),
        question_type=optional("question_type"),
        image_id=optional("image_id"),
        is_ok_vqa="raw_answer" in answers[0],
    )


def _check_match(
    asked: Sequence[Mapping[str, Any]], answered: Mapping[str, _Annotation], path: Path, annotations: Path
) -> None:
    """The annotations answer these questions, about the same images."""
    unanswered = [entry["question_id"] for entry in asked if str(entry["question_id"]) not in answered]
    if unanswered:
        raise DataError(
            f"{annotations}: no annotation for {counted(len(unanswered), len(asked), 'questions')} of {path}, the "
            f"first being question {unanswered[0]}; expected the annotations of the same subset and version"
        )
    for entry in asked:
        image_id = answered[str(entry["question_id"])].image_id
        if image_id is not None and image_id != str(entry["image_id"]):
            raise DataError(
                f"{annotations}: question {entry['question_id']} is about image {image_id} here, "
                f"but about image {entry['image_id']} in {path}"
            )


def _entries(document: Mapping[str, Any], kind: str, path: Path) -> list[dict[str, Any]]:
    """The questions or the annotations, each with the values that it must have, and no id twice."""
    other = "annotations" if kind == "questions" else "questions"
    required = {"questions": ("question_id", "image_id", "question"), "annotations": ("question_id", "answers")}[kind]
    entries = document.get(kind)
    if not isinstance(entries, list):
        hint = f"it holds {other}" if other in document else f"it holds {', '.join(list(document)[:4]) or 'nothing'}"
        raise DataError(f"{path}: no list of {kind} in this file; {hint}")
    if not entries:
        raise DataError(f"{path}: the list of {kind} is empty")
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: number {number} of the {kind} is {entry!r}; expected an object")
        if missing := [key for key in required if entry.get(key) is None]:
            raise DataError(f"{path}: number {number} of the {kind} has no {missing[0]!r}")
        if str(entry["question_id"]) in seen:
            raise DataError(f"{path}: question id {entry['question_id']} is there twice; ids must be unique")
        seen.add(str(entry["question_id"]))
    return entries


def _subset(document: Mapping[str, Any], path: Path) -> str | None:
    """The part of the benchmark, such as `val2014`, that the file or else its name tells."""
    told = document.get("data_subtype")
    named = _SUBSET_NAME.search(path.name)
    return told if isinstance(told, str) and told else named[0] if named else None


def _is_version_2(document: Mapping[str, Any], path: Path) -> bool:
    info = document.get("info")
    return path.name.startswith("v2_") or (isinstance(info, dict) and str(info.get("version")) in ("2.0", "2"))


def _image_names(image_id: str, subset: str | None) -> tuple[str, ...]:
    if not image_id.isdigit():
        return image_names(image_id)
    # The images of test-dev2015 are some of test2015's.
    subsets = COCO_SUBSETS if subset is None else (subset.replace("test-dev", "test"),)
    return (*coco_names(int(image_id), subsets), *image_names(image_id))
