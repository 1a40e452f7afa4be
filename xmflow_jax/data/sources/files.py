"""Question sources: files and folders in, `Question` records out.

A source of any other kind needs no more than an iterable of `Question`, which `run_sweep(data=...)` takes as it is;
`experiments/examples/own_questions.py` shows one.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.gqa_json import gqa_questions
from xmflow_jax.data.sources.hidden_files import is_hidden
from xmflow_jax.data.sources.json_documents import read_json_document
from xmflow_jax.data.sources.study_csv import read_study_csv
from xmflow_jax.data.sources.vqa_json import vqa_questions
from xmflow_jax.data.whole_text import check_texts
from xmflow_jax.errors import DataError

_CSV: Final = ".csv"
_JSON: Final = ".json"


def read_questions(
    paths: Sequence[Path], images: Path, annotations: Path | None = None, scene_graphs: Path | None = None
) -> list[Question]:
    """As `read_question_files`, in one list."""
    by_file = read_question_files(paths, images, annotations, scene_graphs)
    return [question for questions in by_file.values() for question in questions]


def read_question_files(
    paths: Sequence[Path], images: Path, annotations: Path | None = None, scene_graphs: Path | None = None
) -> dict[Path, list[Question]]:
    """The questions of each file, in the order given; a folder stands for its `.csv` files, sorted by name, hidden ones
    left out.

    Args:
        paths: question files and folders of them: the study's `.csv`, or the `.json` of VQA v2, OK-VQA or GQA.
        images: the folder that holds the images.
        annotations: the human answers to the questions of VQA v2's or OK-VQA's file.
        scene_graphs: GQA's, which tell the boxes of the objects.

    Raises:
        DataError: a path or the image folder does not exist, a folder holds no question file, a file is of no kind
            that can be read or is faulty, two files give one task the same question id, or there are annotations or
            scene graphs but no question file that they could belong to.
    """
    with _readable(images):
        if not images.is_dir():
            raise DataError(f"{images}: no such image folder")
    questions: dict[Path, list[Question]] = {}
    seen: dict[tuple[str, str], Path] = {}
    unused = {"annotations": annotations, "scene graphs": scene_graphs}
    for path in question_files(paths):
        if path.suffix.lower() == _CSV:
            asked = read_study_csv(path, images)
        else:
            document = read_json_document(path)
            if "questions" in document or "annotations" in document:
                asked = vqa_questions(document, path, annotations, images)
                unused["annotations"] = None
            else:
                asked = gqa_questions(document, path, scene_graphs, images)
                unused["scene graphs"] = None
        questions[path] = list(asked)
        for question in asked:
            earlier = seen.setdefault((question.task, question.question_id), path)
            if earlier != path:
                raise DataError(
                    f"{path}: question id {question.question_id!r} of task {question.task} is already in {earlier}"
                )
    for kind, file in unused.items():
        if file is not None:
            raise DataError(f"{file}: {kind} were given, but none of the question files is one that they belong to")
    return questions


def check_questions(questions: Iterable[object]) -> tuple[Question, ...]:
    """A user's own questions, as they came.

    Raises:
        DataError: there are none, one is something else or has a text that is none, or two of one task have the same
            id.
    """
    own: list[Question] = []
    seen: set[tuple[str, str]] = set()
    for number, question in enumerate(questions):
        if not isinstance(question, Question):
            raise DataError(f"number {number} of the data given is {question!r}; expected a Question")
        key = (question.task, question.question_id)
        if key in seen:
            raise DataError(f"question id {question.question_id!r} of task {question.task} is there twice")
        seen.add(key)
        check_texts([question], f"number {number} of the data given")
        own.append(question)
    if not own:
        raise DataError("there are no questions in the data given")
    return tuple(own)


def questions_digest(questions: Iterable[Question]) -> str:
    """SHA-256 of all that questions tell, except where their images lie."""
    digest = hashlib.sha256()
    for question in questions:
        fields = vars(question) | {"image_path": question.image_path.name, "boxes": list(map(vars, question.boxes))}
        digest.update(json.dumps(fields, sort_keys=True).encode())
    return digest.hexdigest()


def question_files(paths: Iterable[Path]) -> list[Path]:
    """The question files that are meant, a folder standing for those in it, sorted by name.

    Raises:
        DataError: a path does not exist, a folder holds no question file, or a file is named twice.
    """
    files: list[Path] = []
    for path in paths:
        found = [path]
        with _readable(path):
            folder, exists = path.is_dir(), path.exists()
            if folder:
                found = sorted(file for file in path.iterdir() if _is_question_file(file))
        if not found:
            raise DataError(f"{path}: no question file in this folder; expected *{_CSV} (name *{_JSON} themselves)")
        if not exists:
            raise DataError(f"{path}: no such question file")
        if not folder and path.suffix.lower() not in (_CSV, _JSON):
            kind = path.suffix or "none"
            raise DataError(f"{path}: question files of kind {kind!r} cannot be read; expected *{_CSV} or *{_JSON}")
        for file in found:
            if file in files:
                raise DataError(f"{file}: the question file is named twice")
            files.append(file)
    if not files:
        raise DataError("no question file was given")
    return files


def _is_question_file(path: Path) -> bool:
    return path.suffix.lower() == _CSV and not is_hidden(path) and path.is_file()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What the system says of a path (its name is too long, it lies where one may not read) as `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
