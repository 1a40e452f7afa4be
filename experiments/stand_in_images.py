"""Writes plain stand-in images for question files whose real images are not at hand.

    python -m experiments.stand_in_images --data FILE... --images FOLDER [--samples N]

Every image is one grey JPEG of the size that the question file states, so that prompts, boxes and patches come out as
with the real images. Images that exist already are left alone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.errors import DataError, XmflowError

_GREY = (128, 128, 128)


def write_stand_in_images(questions: Sequence[Question]) -> int:
    """Writes every image that is missing; returns how many were.

    Raises:
        DataError: a question's file does not state the size of its missing image.
    """
    written = 0
    for question in questions:
        if question.image_path.exists():
            continue
        if question.image_size is None:
            raise DataError(
                f"question {question.question_id}: its file states no size for image {question.image_id}; "
                "expected columns image_w and image_h"
            )
        Image.new("RGB", question.image_size, _GREY).save(question.image_path)
        written += 1
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.stand_in_images", description="Write plain stand-in images for question files."
    )
    parser.add_argument(
        "--data", nargs="+", type=Path, required=True, help="question files, or folders of question files"
    )
    parser.add_argument("--images", type=Path, required=True, help="where to write the images; made if need be")
    parser.add_argument("--samples", type=int, help="only for the first N questions of every task")
    options = parser.parse_args(arguments)
    try:
        options.images.mkdir(parents=True, exist_ok=True)
        questions = read_questions(options.data, options.images)
        if options.samples is not None:
            questions = _first_of_each_task(questions, options.samples)
        written = write_stand_in_images(questions)
    except (XmflowError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {written} stand-in images for {len(questions)} questions to {options.images}")
    return 0


def _first_of_each_task(questions: Sequence[Question], count: int) -> list[Question]:
    taken: dict[str, list[Question]] = {}
    for question in questions:
        of_task = taken.setdefault(question.task, [])
        if len(of_task) < count:
            of_task.append(question)
    return [question for of_task in taken.values() for question in of_task]


if __name__ == "__main__":
    sys.exit(main())
