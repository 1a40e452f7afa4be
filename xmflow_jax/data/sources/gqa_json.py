"""Reads GQA's question files, and with its scene graphs the boxes of the objects that each question is about.

Source: the files of GQA version 1.2 (Hudson and Manning, CVPR 2019, arXiv 1902.09506).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.sources.gqa_programs import Reference, options, references, task_of_types, type_name
from xmflow_jax.data.sources.image_folders import GQA_SUBFOLDERS, image_finder, image_names
from xmflow_jax.data.sources.json_documents import counted, read_json_document
from xmflow_jax.data.sources.study_csv import CENTRAL_OBJECT, STUDY_TASKS, objects_of
from xmflow_jax.data.whole_text import check_texts
from xmflow_jax.errors import DataError

SCORER: Final = "gqa"

# GQA's own two groups of answers.
BINARY: Final = "binary"
OPEN: Final = "open"


def read_gqa_json(path: Path, scene_graphs: Path | None, images: Path) -> list[Question]:
    """The questions of one file, in its order, balanced or not as the file has them.

    The task is the study's where the question's detailed type is one of the study's, else its structural and semantic
    type, which are `question_type`. `answer_type` is `open` for those of structure `query`, else `binary`, as in GQA's
    own evaluation. Boxes are those of all objects that the question's program selects or relates, in its order, and
    `central_object` is named where there is exactly one.

    Args:
        path: question id -> {question, imageId, answer, types, semantic}; the last three may be missing, as they are
            in the test sets.
        scene_graphs: image id -> {width, height, objects: id -> {x, y, w, h}}; without it there are no boxes.
        images: the folder of the `<imageId>.jpg`, or of a folder `images` or `VG_100K` that holds them. They need
            not exist.

    Raises:
        DataError: a file is missing, truncated, of another layout, or lacks a value; or the scene graphs lack one of
            the images.
    """
    return gqa_questions(read_json_document(path), path, scene_graphs, images)


def gqa_questions(document: Mapping[str, Any], path: Path, scene_graphs: Path | None, images: Path) -> list[Question]:
    """As `read_gqa_json`, of a file that is read already."""
    _check(document, path)
    graphs: Mapping[str, Any] = {}
    if scene_graphs is not None:
        graphs = read_json_document(scene_graphs)
        lacking = [entry["imageId"] for entry in document.values() if entry["imageId"] not in graphs]
        if lacking:
            raise DataError(
                f"{scene_graphs}: no scene graph of the image of {counted(len(lacking), len(document), 'questions')} "
                f"of {path}, the first being image {lacking[0]}; expected the scene graphs of the same split"
            )
    find = image_finder(images, GQA_SUBFOLDERS)
    questions = [
        _question(question_id, entry, graphs.get(entry["imageId"]), scene_graphs, find(image_names(entry["imageId"])))
        for question_id, entry in document.items()
    ]
    check_texts(questions, str(path))
    return questions


def _check(document: Mapping[str, Any], path: Path) -> None:
    """Every question has what it must have."""
    if not document:
        raise DataError(f"{path}: no questions in this file")
    for question_id, entry in document.items():
        for key in ("question", "imageId"):
            value = entry.get(key) if isinstance(entry, dict) else None
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"{path}: {question_id!r} has {value!r} as its {key!r}; expected a file of VQA's layout (with a "
                    "list 'questions') or of GQA's (question id -> question, imageId, answer)"
                )
        for key, kind in (("answer", str), ("types", dict), ("semantic", list)):
            value = entry.get(key)
            if value is not None and not isinstance(value, kind):
                raise DataError(f"{path}: question {question_id} has {value!r} as its {key!r}")


def _question(
    question_id: str, entry: Mapping[str, Any], graph: Any, scene_graphs: Path | None, image_path: Path
) -> Question:
    types = {key: str(value) for key, value in (entry.get("types") or {}).items() if value is not None}
    program = [step for step in entry.get("semantic") or () if isinstance(step, dict)]
    answer = entry.get("answer") or ""
    task, about, chosen = task_of_types(types), references(program), options(program, answer)
    one_object = objects_of(task) == (CENTRAL_OBJECT,) if task in STUDY_TASKS else len(about) == 1
    where = f"{scene_graphs}: image {entry['imageId']}"
    if graph is not None and not (isinstance(graph, dict) and isinstance(graph.get("objects") or {}, dict)):
        raise DataError(f"{where} has {shorten(repr(graph), 60)}; expected width, height and objects by their ids")
    return Question(
        question_id=question_id,
        image_id=entry["imageId"],
        image_path=image_path,
        text=entry["question"],
        answer=answer,
        task=task,
        true_option=chosen[0] if chosen else None,
        false_option=chosen[1] if chosen else None,
        central_object=about[0].name if about and one_object else None,
        boxes=() if graph is None else _boxes(about, graph, where),
        image_size=None if graph is None else _size(graph, where),
        answer_type=None if "structural" not in types else OPEN if types["structural"] == "query" else BINARY,
        question_type=type_name(types),
        scorer=SCORER,
    )


def _boxes(about: Sequence[Reference], graph: Mapping[str, Any], where: str) -> tuple[Box, ...]:
    """The boxes of the objects in their order; an object that the graph does not hold has none."""
    objects = graph.get("objects") or {}
    ids = dict.fromkeys(one for reference in about for one in reference.ids if one in objects)
    return tuple(Box(*(_pixels(objects[one], key, f"{where}, object {one}") for key in "xywh")) for one in ids)


def _size(graph: Any, where: str) -> tuple[int, int]:
    width, height = (_pixels(graph, key, where) for key in ("width", "height"))
    return width, height


def _pixels(holder: Any, key: str, where: str) -> int:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, int):
        raise DataError(f"{where} has {value!r} as its {key!r}; expected a whole number of pixels")
    return value
