"""Questions as TensorFlow Datasets examples: the features that builders store, and `Question` records made from them.

Only the `array_record` file format and `as_data_source` work without TensorFlow.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from xmflow_jax.data.question import Box, Question
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


def read_tfds_questions(builder: tfds.core.DatasetBuilder, split: str, images: Path) -> list[Question]:
    """The questions of a split that is already built, in the order in which they were stored.

    Args:
        builder: one whose features hold at least `question_features`.
        split: its name, or a part of it as TFDS writes that: `test[:100]`.
        images: where to write the images as `<image_id>.png`, made if need be. A file that is there already in the
            size of the stored one is left alone.

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
    try:
        images.mkdir(parents=True, exist_ok=True)
        return [_question(example, images) for example in source]
    except OSError as error:
        raise DataError(f"{images}: images cannot be written: {error.strerror or error}") from error


def _question(example: Mapping[str, Any], images: Path) -> Question:
    def text(value: bytes) -> str:
        return value.decode()

    image_id = text(example["image_id"])
    image_path = images / f"{image_id}.png"
    _write_once(image_path, example["image"])
    with Image.open(io.BytesIO(example["image"])) as image:
        size = image.size
    return Question(
        question_id=text(example["question_id"]),
        image_id=image_id,
        image_path=image_path,
        text=text(example["question"]),
        answer=text(example["answer"]),
        task=text(example["task"]),
        true_option=text(example["options"]["true"]) or None,
        false_option=text(example["options"]["false"]) or None,
        central_object=text(example["central_object"]) or None,
        boxes=tuple(Box(*map(int, box)) for box in example["boxes"]),
        image_size=size,
    )


def _write_once(path: Path, content: bytes) -> None:
    if path.is_file() and path.stat().st_size == len(content):
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
