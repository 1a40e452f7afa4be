"""Question sources: files and folders in, `Question` records out.

A further kind of file (VQA `.json`, say) is one more reader in `_READERS`.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from xmflow_jax.data.question import Question
from xmflow_jax.data.study_csv import read_study_csv
from xmflow_jax.errors import DataError

_READERS: Final[dict[str, Callable[[Path, Path], list[Question]]]] = {".csv": read_study_csv}


def read_questions(paths: Sequence[Path], images: Path) -> list[Question]:
    """The questions of several files, in the order given; a folder stands for its question files, sorted by name.

    Args:
        paths: question files and folders of them.
        images: the folder that holds the images.

    Raises:
        DataError: a path or the image folder does not exist, a folder holds no question file, a file is of no kind
            that can be read or is faulty, or two files give one task the same question id.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such image folder")
    questions = []
    seen: dict[tuple[str, str], Path] = {}
    for path in question_files(paths):
        for question in _reader_of(path)(path, images):
            earlier = seen.setdefault((question.task, question.question_id), path)
            if earlier != path:
                raise DataError(
                    f"{path}: question id {question.question_id!r} of task {question.task} is already in {earlier}"
                )
            questions.append(question)
    return questions


def question_files(paths: Iterable[Path]) -> list[Path]:
    """The question files that are meant, a folder standing for those in it, sorted by name.

    Raises:
        DataError: a path does not exist, a folder holds no question file, or a file is named twice.
    """
    files: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS)
            if not found:
                raise DataError(f"{path}: no question file in this folder; expected {_kinds()}")
        elif not path.exists():
            raise DataError(f"{path}: no such question file")
        for file in found:
            if file in files:
                raise DataError(f"{file}: the question file is named twice")
            files.append(file)
    if not files:
        raise DataError("no question file was given")
    return files


def _reader_of(path: Path) -> Callable[[Path, Path], list[Question]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: question files of kind {path.suffix or 'none'!r} cannot be read; expected {_kinds()}")
    return reader


def _kinds() -> str:
    return " or ".join(f"*{suffix}" for suffix in _READERS)
