"""Questions as TensorFlow Datasets examples: the features that builders store, and `Question` records made from them.

Only the `array_record` file format and `as_data_source` work without TensorFlow.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from xmflow_jax.data.question import EXACT, Box, Question
from xmflow_jax.errors import DataError

FILE_FORMAT: Final = "array_record"


def question_features() -> dict[str, Any]:
    """One question of a data set: texts that it lacks are empty, boxes are rows of x, y, width, height in pixels."""
    text = tfds.features.Text
    return {
        "question_id": text(),
        "image_id": text(),
        "image": tfds.features.Image(shape=(None, None, 3), dtype=np.uint8, encoding_format="png"),
        "question": text(),
        "answer": text(),
        "task": text(),
        "options": {"true": text(), "false": text()},
        "central_object": text(),
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.int32),
    }


def benchmark_features() -> dict[str, Any]:
    """`question_features` and what benchmarks tell beyond them; images keep their files' bytes, JPEG or PNG."""
    text = tfds.features.Text
    return question_features() | {
        "image": tfds.features.Image(shape=(None, None, 3), dtype=np.uint8),
        "image_name": text(),
        "image_size": tfds.features.Tensor(shape=(2,), dtype=np.int32),
        "answers": tfds.features.Sequence(text()),
        "answer_type": text(),
        "question_type": text(),
        "scorer": text(),
    }


def example_of(question: Question, image: bytes) -> dict[str, Any]:
    """A question as `benchmark_features` has it; an image size of 0 by 0 is one that its source does not state."""
    boxes = [(box.x, box.y, box.width, box.height) for box in question.boxes]
    return {
        "question_id": question.question_id,
        "image_id": question.image_id,
        "image": image,
        "image_name": question.image_path.name,
        "image_size": np.array(question.image_size or (0, 0), np.int32),
        "question": question.text,
        "answer": question.answer,
        "answers": list(question.answers),
        "task": question.task,
        "options": {"true": question.true_option or "", "false": question.false_option or ""},
        "central_object": question.central_object or "",
        "boxes": np.array(boxes, np.int32).reshape(-1, 4),
        "answer_type": question.answer_type or "",
        "question_type": question.question_type or "",
        "scorer": question.scorer,
    }


def read_tfds_questions(
    builder: tfds.core.DatasetBuilder,
    split: str,
    images: Path,
    choose: Callable[[Sequence[Question]], Sequence[Question]] = lambda questions: questions,
) -> list[Question]:
    """The questions of a split that is already built, in the order in which they were stored.

    Args:
        builder: one whose features hold at least `question_features`.
        split: its name, or a part of it as TFDS writes that: `test[:100]`.
        images: where to write the images under their files' names (as `<image_id>.png` where the data set stores no
            name), made if need be. A file that is there already in the size of the stored one is left alone.
        choose: picks the questions to return; no other question's image is written.

    Raises:
        DataError: the data set is not built, has no such split, or an image cannot be written.
    """
    if not builder.is_prepared():
        raise DataError(f"{builder.info.full_name} is not built in {builder.data_dir}; call download_and_prepare first")
    try:
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except Exception as error:  # a faulty split, a file format that needs TensorFlow: TFDS has no common error class
        raise DataError(
            f"split {split!r} of {builder.info.full_name} cannot be read: {' '.join(str(error).split())}"
        ) from error
    first: dict[Path, int] = {}  # several questions are about one image
    questions = []
    for number, example in enumerate(source):
        questions.append(_question(example, images))
        first.setdefault(questions[-1].image_path, number)
    chosen = list(choose(questions))
    try:
        images.mkdir(parents=True, exist_ok=True)
        for path in dict.fromkeys(question.image_path for question in chosen):
            _write_once(path, source[first[path]]["image"])
    except OSError as error:
        raise DataError(f"{images}: images cannot be written: {error.strerror or error}") from error
    return chosen


def _question(example: Mapping[str, Any], images: Path) -> Question:
    def text(name: str) -> str:
        return example[name].decode() if name in example else ""

    image_id = text("image_id")
    return Question(
        question_id=text("question_id"),
        image_id=image_id,
        image_path=images / Path(text("image_name") or f"{image_id}.png").name,
        text=text("question"),
        answer=text("answer"),
        task=text("task"),
        true_option=example["options"]["true"].decode() or None,
        false_option=example["options"]["false"].decode() or None,
        central_object=text("central_object") or None,
        boxes=tuple(Box(*map(int, box)) for box in example["boxes"]),
        image_size=_image_size(example),
        answers=tuple(answer.decode() for answer in example.get("answers", ())),
        answer_type=text("answer_type") or None,
        question_type=text("question_type") or None,
        scorer=text("scorer") or EXACT,
    )


def _image_size(example: Mapping[str, Any]) -> tuple[int, int] | None:
    """As the source states it; of a data set that stores no such statement, the image's own."""
    if "image_size" not in example:
        with Image.open(io.BytesIO(example["image"])) as image:
            return image.size
    width, height = map(int, example["image_size"])
    return (width, height) if width and height else None


def _write_once(path: Path, content: bytes) -> None:
    if path.is_file() and path.stat().st_size == len(content):
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
