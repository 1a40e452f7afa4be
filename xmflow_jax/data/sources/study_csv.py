"""Reads and writes the question files of the first study: one CSV file for each of its six GQA tasks.

Source: the files in `datasets/` of the code released with Cross-modal Information Flow in Multimodal LLMs
(arXiv 2411.18620). Every cell is read as text: question ids start with zeros, and an answer may be "None" or "NA".
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.sources.image_folders import KNOWN_SUBFOLDERS, image_finder, image_names
from xmflow_jax.errors import DataError

STUDY_TASKS: Final = ("ChooseAttr", "ChooseCat", "QueryAttr", "LogicalObj", "ChooseRel", "CompareAttr")

_REQUIRED: Final = ("question_id", "img_id", "question", "answer")
CENTRAL_OBJECT: Final = "central object"
TWO_OBJECTS: Final = ("object1", "object2")
_OBJECTS: Final = (CENTRAL_OBJECT, *TWO_OBJECTS)
_ONE_OBJECT_TASKS: Final = ("ChooseAttr", "ChooseCat", "QueryAttr")
# "-" is how the study writes "there is no such object"; an empty cell is what re-saving such a file often leaves.
_ABSENT: Final = ("", "-")


def read_study_csv(path: Path, images: Path) -> list[Question]:
    """The questions of one file in the study's columns, in the file's order.

    `question_id`, `img_id`, `question` and `answer` are required. Where present, `true option`, `false option`,
    `central object name` and the `x`, `y`, `w`, `h` of `central object`, `object1` and `object2` (`-` where there
    is no such object), and `image_w`, `image_h` are used. The task is the last `_`-separated part of the file's stem
    when that is one of the study's six, else the stem. Images need not exist yet.

    Raises:
        DataError: the file cannot be read as UTF-8 CSV, has no rows, lacks a required column or value, repeats a
            question id, or holds a number that is none; or there is no such image folder.
    """
    task = task_of(path)
    questions: list[Question] = []
    first_line: dict[str, int] = {}
    rows = _read_rows(path)
    find = image_finder(images, KNOWN_SUBFOLDERS)
    for line, row in rows:
        question = _question(row, task, find, f"{path}, line {line}")
        earlier = first_line.setdefault(question.question_id, line)
        if earlier != line:
            raise DataError(
                f"{path}: question id {question.question_id!r} is in line {line} and already in line {earlier}; "
                "ids must be unique"
            )
        questions.append(question)
    if not questions:
        raise DataError(f"{path}: no questions in this file; expected one row per question below the header")
    return questions


def write_study_csv(path: Path, task: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes questions of one of the six tasks in those of the study's columns that `read_study_csv` reads, and names.

    Args:
        rows: for each question the cells `question_id`, `img_id`, `question`, `answer`, `image_w`, `image_h`, those of
            `objects_of(task)` as `object_cells` gives them, where the task's name begins with `Choose` also
            `true option` and `false option`; and `captions` in all of them or in none.

    Raises:
        ValueError: a row has a cell that the task's file has no column for.
    """
    columns = ["question_id", "img_id", "question", "answer"]
    columns += ["true option", "false option"] if task.startswith("Choose") else []
    columns += [f"{prefix} name" for prefix in objects_of(task)]
    columns += ["captions"] if rows and "captions" in rows[0] else []
    columns += ["image_w", "image_h"]
    columns += [f"{prefix} {side}" for prefix in objects_of(task) for side in "whxy"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def objects_of(task: str) -> tuple[str, ...]:
    """The objects that a task's file has columns for."""
    return (CENTRAL_OBJECT,) if task in _ONE_OBJECT_TASKS else TWO_OBJECTS


def object_cells(prefix: str, name: str, box: Box | None) -> dict[str, str]:
    """An object's name and box; `-` where the image does not show it."""
    sides = {"w": box.width, "h": box.height, "x": box.x, "y": box.y} if box else dict.fromkeys("whxy", "-")
    return {f"{prefix} name": name} | {f"{prefix} {side}": str(value) for side, value in sides.items()}


def task_of(path: Path) -> str:
    """The task that a question file's name tells: `..._ChooseAttr.csv` gives `ChooseAttr`, `mine.csv` gives `mine`."""
    last_part = path.stem.rpartition("_")[2]
    # Tables and figures hold text: a name's bytes that are no UTF-8, and its line ends, are replaced.
    whole = " ".join(os.fsencode(path.stem).decode(errors="replace").splitlines())
    return last_part if last_part in STUDY_TASKS else whole


def _read_rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    """(line number, row) for every row that is not blank."""
    rows: list[tuple[int, Mapping[str, str]]] = []
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write; newline="" leaves line ends to the csv module.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            if not header:
                raise DataError(f"{path}: the file is empty; expected a header with {', '.join(_REQUIRED)}")
            if missing := [column for column in _REQUIRED if column not in header]:
                raise DataError(
                    f"{path}: no column {', '.join(map(repr, missing))}; a question file needs {', '.join(_REQUIRED)}"
                )
            if repeated := sorted({column for column in header if header.count(column) > 1}):
                raise DataError(f"{path}: column {repeated[0]!r} appears more than once")
            for row in reader:
                # DictReader files surplus cells under the key None and fills missing ones with the value None.
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: the row has not {len(header)} cells as the header has"
                    )
                rows.append((reader.line_num, row))
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"{path}: not UTF-8 text (byte 0x{byte:02x} cannot be decoded); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV file: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return rows


def _question(row: Mapping[str, str], task: str, find: Callable[[tuple[str, ...]], Path], where: str) -> Question:
    for column in _REQUIRED:
        if not row[column].strip():
            raise DataError(f"{where}: {column!r} is empty")
    image_id = row["img_id"].strip()
    boxes = tuple(box for name in _OBJECTS if (box := _box(row, name, where)) is not None)
    return Question(
        question_id=row["question_id"].strip(),
        image_id=image_id,
        image_path=find(image_names(image_id)),
        text=row["question"],
        answer=row["answer"],
        task=task,
        true_option=_optional(row, "true option"),
        false_option=_optional(row, "false option"),
        central_object=_optional(row, "central object name"),
        boxes=boxes,
        image_size=_image_size(row, where),
    )


def _optional(row: Mapping[str, str], column: str) -> str | None:
    value = row.get(column, "")
    return None if value.strip() in _ABSENT else value


def _box(row: Mapping[str, str], name: str, where: str) -> Box | None:
    numbers = _integers(row, [f"{name} {side}" for side in "xywh"], where)
    return None if numbers is None else Box(*numbers)


def _image_size(row: Mapping[str, str], where: str) -> tuple[int, int] | None:
    numbers = _integers(row, ["image_w", "image_h"], where)
    return None if numbers is None else (numbers[0], numbers[1])


def _integers(row: Mapping[str, str], columns: list[str], where: str) -> list[int] | None:
    """The integers of all these columns, or None where all of them are absent."""
    cells = {column: row.get(column, "").strip() for column in columns}
    absent = [column for column, cell in cells.items() if cell in _ABSENT]
    if len(absent) == len(columns):
        return None
    if absent:
        raise DataError(
            f"{where}: {absent[0]!r} is absent, but {', '.join(c for c in columns if c not in absent)} is not"
        )
    return [_integer(cell, column, where) for column, cell in cells.items()]


def _integer(cell: str, column: str, where: str) -> int:
    try:
        number = float(cell)
        # Re-saving a column that has gaps turns 12 into 12.0, which is still twelve.
        if number.is_integer():
            return int(number)
    except ValueError:
        pass
    raise DataError(f"{where}: {column!r} is {cell!r}; expected a whole number of pixels")
