"""Which image a question is shown: its own, none, or another question's. The last two are blind baselines."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from xmflow_jax.data.images import COLOURS
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.question import Question
from xmflow_jax.errors import OptionError

OWN: Final = "own"
BLANK: Final = "blank"
SHUFFLED: Final = "shuffled"

Tree = Any

# `(task, question_id)`.
Key = tuple[str, str]
Prepare = Callable[[Question], PreparedQuestion]


def key_of(question: Question) -> Key:
    """What names a question within a run."""
    return question.task, question.question_id


def shuffled_images(questions: Sequence[Question], seed: int) -> dict[Key, Question]:
    """For each question another question, about another image, whose image it is shown.

    A permutation, drawn by `seed`: every question's image is shown to exactly one other question.

    The questions are laid out image by image, in random order, and each takes the image of the one that stands further
    on by as many places as the most frequent image has questions.

    Raises:
        OptionError: one image has more than half of the questions, so that there is no such permutation.
    """
    random = np.random.default_rng([seed, 1])
    by_image: dict[str, list[Question]] = {}
    for index in random.permutation(len(questions)):
        by_image.setdefault(str(questions[index].image_path), []).append(questions[index])
    laid_out = [question for own in by_image.values() for question in own]
    image, most = max(((image, len(own)) for image, own in by_image.items()), key=lambda pair: pair[1])
    if 2 * most > len(questions):
        raise OptionError(
            f"--shuffle-images: {most} of {len(questions)} questions are about the image {image}; at most half may be, "
            "for each to be shown another image"
        )
    others = [*laid_out[most:], *laid_out[:most]]
    return {key_of(question): other for question, other in zip(laid_out, others, strict=True)}


def with_blank_images(prepare: Prepare) -> Prepare:
    """Questions are prepared with blank images: every pixel has the image processor's mean colour.

    That is zero after normalisation. A question whose image cannot be read is set aside nevertheless, so that the same
    questions are answered as with their images.
    """

    def blank(question: Question) -> PreparedQuestion:
        prompt = prepare(question)
        return dataclasses.replace(prompt, pixels=_mean_colour(prompt.pixels))

    return blank


def _mean_colour(pixels: Tree) -> Tree:
    """Zeros in place of the colours; what tells where pictures lie stays."""
    if isinstance(pixels, Mapping):
        return {**pixels, COLOURS: np.zeros_like(pixels[COLOURS])}
    return np.zeros_like(pixels)


def with_shuffled_images(prepare: Prepare, others: dict[Key, Question]) -> Prepare:
    """Questions are prepared with other questions' images (`shuffled_images`).

    Boxes are left out, because they belong to the question's own image.
    """

    def shuffled(question: Question) -> PreparedQuestion:
        image = others[key_of(question)].image_path
        return prepare(dataclasses.replace(question, image_path=image, image_size=None, boxes=()))

    return shuffled
