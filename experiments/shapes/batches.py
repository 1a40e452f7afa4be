"""Training batches: scenes, what lies at each patch, and questions as tokens. A batch follows from (seed, step)."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from xmflow_jax.data.sources.shapes.questions import Asked, ask
from xmflow_jax.data.sources.shapes.scenes import (
    CELL,
    IMAGE_SIZE,
    VALUES,
    Scene,
    draw_generator,
    draw_scene,
    footprints,
    paint,
)
from xmflow_jax.data.sources.shapes.tokenizer import CUE, END, vocabulary
from xmflow_jax.data.sources.study_csv import STUDY_TASKS

# A question, the cue, and the answer; the longest has 13 + 2 + 1.
TEXT_LENGTH: Final = 16

# Of the questions about attributes, this share is drawn again until it asks for a side of the picture.
_SIDES: Final = 0.5
_TRIES: Final = 6

_IDS: Final = {token: index for index, token in enumerate(vocabulary())}
END_ID: Final = _IDS[END]

# Columns of `Batch.patches`: ids of the words that name a patch's object, and the sides that it lies on.
ATTRIBUTE_IDS: Final = {
    **{attribute: tuple(_IDS[f"▁{value}"] for value in values) for attribute, values in VALUES.items()},
    "across": (_IDS["▁left"], _IDS["▁right"]),
    "down": (_IDS["▁above"], _IDS["▁below"]),
}


# Built with numpy on the host, traced as jax arrays inside the losses.
Array = Any


class Batch(NamedTuple):
    """One step's data.

    Attributes:
        pixels: normalised as the shipped image processor does.
        patches: for each patch, its object's value of every attribute and its sides; -1 where there is none.
        centres: the object's middle (down, across), in patches from the patch's own middle, or in lattice cells from
            the image's; 0 where there is no object.
        tokens: question, cue and answer, padded on the right.
        cue_end: where the answer is read.
        answer: the answer's token.
        task: index into STUDY_TASKS.
    """

    pixels: Float32[Array, "scene height width 3"]
    patches: Int32[Array, "scene patch attribute"]
    centres: Float32[Array, "scene patch 2"]
    tokens: Int32[Array, "scene question position"]
    cue_end: Int32[Array, "scene question"]
    answer: Int32[Array, "scene question"]
    task: Int32[Array, "scene question"]


def token_ids(text: str) -> list[int]:
    """The shipped tokenizer's ids of a text, without the beginning-of-sequence token; it is far slower."""
    words = text.replace("?", " ?").replace(":", " :").split()
    return [_IDS[word if word in _IDS else f"▁{word}"] for word in words]


def normalise(pixels: np.ndarray) -> np.ndarray:
    """0..255 to -1..1: a mean and a deviation of one half."""
    return (pixels.astype(np.float32) / 255 - 0.5) / 0.5


def draw_batch(
    seed: int, step: int, scenes: int, questions: Mapping[str, int], patch: int, centre_in_image: bool = False
) -> Batch:
    """The batch of one step; `questions` says how many of each task are asked about every scene."""
    drawn = []
    for index in range(step * scenes, (step + 1) * scenes):
        generator = draw_generator(seed, "train", index)
        scene = draw_scene(generator)
        drawn.append((scene, _ask_all(scene, questions, generator)))
    patches, centres = zip(*(patch_labels(scene, patch, centre_in_image) for scene, _ in drawn), strict=True)
    count = sum(questions.values())
    tokens = np.zeros((scenes, count, TEXT_LENGTH), np.int32)
    cue_end, answer, task = (np.zeros((scenes, count), np.int32) for _ in range(3))
    for row, (_, asked) in enumerate(drawn):
        for column, one in enumerate(asked):
            prompt = token_ids(f"{one.text} {CUE}")
            answer[row, column] = token_ids(one.answer)[0]
            tokens[row, column, : len(prompt) + 1] = [*prompt, answer[row, column]]
            cue_end[row, column] = len(prompt) - 1
            task[row, column] = STUDY_TASKS.index(one.task)
    pixels = normalise(np.stack([paint(scene) for scene, _ in drawn]))
    return Batch(pixels, np.stack(patches), np.stack(centres), tokens, cue_end, answer, task)


def _ask_all(scene: Scene, questions: Mapping[str, int], generator: np.random.Generator) -> list[Asked]:
    asked = []
    for task, count in questions.items():
        for _ in range(count):
            one = None
            wants_side = task == "QueryAttr" and generator.random() < _SIDES
            for _ in range(_TRIES):
                one = ask(scene, task, generator)
                if one is not None and (not wants_side or "side" in one.text):
                    break
            # Every scene has a pair to compare, not every one has the rest.
            if one is None:
                one = ask(scene, "CompareAttr", generator)
            assert one is not None
            asked.append(one)
    return asked


def patch_labels(
    scene: Scene, patch: int, centre_in_image: bool
) -> tuple[Int32[np.ndarray, "patch attribute"], Float32[np.ndarray, "patch 2"]]:
    """What `Batch.patches` and `Batch.centres` say of one scene; a patch's object is the one with most pixels in it."""
    side = IMAGE_SIZE // patch
    covered = np.stack([mask.reshape(side, patch, side, patch).sum((1, 3)) for mask in footprints(scene)])
    owner = np.where(covered.max(0) > 0, covered.argmax(0), -1)
    labels = np.full((side, side, len(ATTRIBUTE_IDS)), -1, np.int32)
    centres = np.zeros((side, side, 2), np.float32)
    for index, thing in enumerate(scene.things):
        own = owner == index
        looks = [values.index(getattr(thing, attribute)) for attribute, values in VALUES.items()]
        # The middle column and row are on no side.
        sides = [{0: 0, 1: -1, 2: 1}[thing.column], {0: 0, 1: -1, 2: 1}[thing.row]]
        labels[own] = [*looks, *sides]
        rows, columns = np.nonzero(own)
        if centre_in_image:
            centres[own] = (thing.y - IMAGE_SIZE / 2) / CELL, (thing.x - IMAGE_SIZE / 2) / CELL
        else:
            centres[own] = np.stack([thing.y / patch - rows - 0.5, thing.x / patch - columns - 0.5], 1)
    return labels.reshape(-1, labels.shape[-1]), centres.reshape(-1, 2)
