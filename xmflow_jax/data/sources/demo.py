"""Demonstration questions about drawn images, for trying the program and testing it without any download.

Written in the first study's six file formats (see `study_csv`), worded like GQA's, with true boxes. All objects lie
inside the image's central square, so that a centre crop loses none of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from xmflow_jax.data.question import Box
from xmflow_jax.data.sources.study_csv import CENTRAL_OBJECT, TWO_OBJECTS, object_cells, write_study_csv

_COLORS: Final = {"red": (214, 40, 40), "green": (42, 157, 63), "blue": (38, 84, 214), "yellow": (240, 200, 30)}
_SHAPES: Final = ("circle", "square", "star", "cross")
_IMAGE_SIZES: Final = ((160, 120), (120, 160), (128, 128))
_PAPER: Final = (236, 232, 224)


@dataclass(frozen=True)
class Thing:
    """One drawn object: `large` says which of two sizes, `left` on which side of the image its middle lies."""

    shape: str
    color: str
    large: bool
    left: bool
    box: Box


Row = dict[str, str]


def write_demo_questions(folder: Path, per_task: int, seed: int) -> tuple[list[Path], Path]:
    """Writes `demo_<task>.csv` for the study's six tasks and one JPEG per question.

    Args:
        folder: made if need be; existing files of the same names are replaced.
        per_task: questions in each file. Answers of two kinds take turns.
        seed: the same seed writes the same bytes (with one version of Pillow).

    Returns:
        The question files in the order of `STUDY_TASKS`, and the folder of their images.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    paths = []
    for task_index, (task, ask) in enumerate(_TASKS.items()):
        rows = []
        for index in range(per_task):
            generator = np.random.default_rng((seed, task_index, index))
            size = _IMAGE_SIZES[int(generator.integers(len(_IMAGE_SIZES)))]
            things = _scene(size, generator)
            number = 1 + task_index * per_task + index
            row = ask(things, index % 2 == 0, generator)
            # Leading zeros, as GQA's ids have: reading them as numbers would lose them.
            row |= {"question_id": f"{number:08d}", "img_id": f"demo{number:06d}"}
            row |= {"image_w": str(size[0]), "image_h": str(size[1])}
            _draw(size, things).save(images / f"{row['img_id']}.jpg", quality=95)
            rows.append(row)
        path = folder / f"demo_{task}.csv"
        write_study_csv(path, task, rows)
        paths.append(path)
    return paths, images


def _scene(size: tuple[int, int], generator: np.random.Generator) -> list[Thing]:
    """Three objects of different shapes in different quarters; the first two share colour or size, never both.

    They lie on opposite sides, so that every question that can be asked about them has one answer.
    """
    width, height = size
    cell = min(size) // 2
    upper, lower = (int(row) for row in generator.permutation(2))
    first_left = bool(generator.integers(2))
    quarters = [(first_left, upper), (not first_left, lower), (first_left, lower)]
    shapes = [_SHAPES[index] for index in generator.permutation(len(_SHAPES))[:3]]
    first, second, third = (list(_COLORS)[index] for index in generator.permutation(len(_COLORS))[:3])
    same_color, large = bool(generator.integers(2)), bool(generator.integers(2))
    looks = [
        (first, large),
        (first if same_color else second, large != same_color),
        (third, bool(generator.integers(2))),
    ]
    things = []
    for shape, (color, is_large), (left, row) in zip(shapes, looks, quarters, strict=True):
        side = cell * 3 // 4 if is_large else cell * 2 // 5
        slack = cell - side
        x = width // 2 - (cell if left else 0) + int(generator.integers(slack))
        y = height // 2 - cell + row * cell + int(generator.integers(slack))
        things.append(Thing(shape, color, is_large, left, Box(x, y, side, side)))
    return things


def _choose_attribute(things: Sequence[Thing], first_is_true: bool, generator: np.random.Generator) -> Row:
    thing = things[0]
    other = str(generator.choice([color for color in _COLORS if color != thing.color]))
    options = (thing.color, other) if first_is_true else (other, thing.color)
    question = f"Is the {thing.shape} {options[0]} or {options[1]}?"
    return _about_one(question, thing.color, thing, thing.shape) | _options(thing.color, other)


def _choose_category(things: Sequence[Thing], first_is_true: bool, generator: np.random.Generator) -> Row:
    thing = things[2]  # the one whose colour no other has
    other = str(generator.choice([shape for shape in _SHAPES if shape != thing.shape]))
    options = (thing.shape, other) if first_is_true else (other, thing.shape)
    question = f"Which kind of shape is {thing.color}, the {options[0]} or the {options[1]}?"
    return _about_one(question, thing.shape, thing, "shape") | _options(thing.shape, other)


def _query_attribute(things: Sequence[Thing], left: bool, generator: np.random.Generator) -> Row:
    thing = next(thing for thing in things if thing.left == left)
    place = str(generator.choice(["", " of the image", " of the photo"]))
    question = f"On which side{place} is the {thing.shape}?"
    return _about_one(question, _side(thing), thing, thing.shape)


def _logical_object(things: Sequence[Thing], yes: bool, generator: np.random.Generator) -> Row:
    """Is there a circle or a star that is red? The second object is there in one question of three."""
    thing = things[0]
    absent = next(shape for shape in _SHAPES if shape not in {other.shape for other in things})
    second = things[2] if generator.integers(3) == 0 else None
    shown = {thing.color} | ({second.color} if second else set())
    color = thing.color if yes else next(color for color in _COLORS if color not in shown)
    question = f"Is there a {thing.shape} or a {second.shape if second else absent} that is {color}?"
    row = _about_two(question, "yes" if yes else "no", thing, second)
    return row | {"object2 name": second.shape if second else absent}


def _choose_relation(things: Sequence[Thing], left: bool, generator: np.random.Generator) -> Row:
    one, other = things[0], things[1]
    subject, reference = (one, other) if one.left == left else (other, one)
    sides = ("left", "right") if generator.integers(2) else ("right", "left")
    question = f"Is the {subject.shape} to the {sides[0]} or to the {sides[1]} of the {reference.shape}?"
    true, false = ("left", "right") if left else ("right", "left")
    return _about_two(question, true, reference, subject) | _options(true, false)


def _compare_attribute(things: Sequence[Thing], both: bool, _: np.random.Generator) -> Row:
    one, other = things[0], things[1]
    question = f"What do {'both ' if both else ''}the {one.shape} and the {other.shape} have in common?"
    return _about_two(question, "color" if one.color == other.color else "size", one, other)


_TASKS: Final[dict[str, Callable[[Sequence[Thing], bool, np.random.Generator], Row]]] = {
    "ChooseAttr": _choose_attribute,
    "ChooseCat": _choose_category,
    "QueryAttr": _query_attribute,
    "LogicalObj": _logical_object,
    "ChooseRel": _choose_relation,
    "CompareAttr": _compare_attribute,
}


def _side(thing: Thing) -> str:
    return "left" if thing.left else "right"


def _options(true: str, false: str) -> Row:
    return {"true option": true, "false option": false}


def _about_one(question: str, answer: str, thing: Thing, name: str) -> Row:
    return {"question": question, "answer": answer} | object_cells(CENTRAL_OBJECT, name, thing.box)


def _about_two(question: str, answer: str, one: Thing, other: Thing | None) -> Row:
    row = {"question": question, "answer": answer} | object_cells(TWO_OBJECTS[0], one.shape, one.box)
    return row | object_cells(TWO_OBJECTS[1], other.shape if other else "-", other.box if other else None)


def _draw(size: tuple[int, int], things: Sequence[Thing]) -> Image.Image:
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    for thing in things:
        box, fill = thing.box, _COLORS[thing.color]
        right, lower = box.x + box.width - 1, box.y + box.height - 1
        if thing.shape == "circle":
            draw.ellipse((box.x, box.y, right, lower), fill=fill)
        elif thing.shape == "square":
            draw.rectangle((box.x, box.y, right, lower), fill=fill)
        elif thing.shape == "cross":
            third = box.width // 3
            draw.rectangle((box.x + third, box.y, right - third, lower), fill=fill)
            draw.rectangle((box.x, box.y + third, right, lower - third), fill=fill)
        else:
            draw.polygon(_star(box), fill=fill)
    return image


def _star(box: Box) -> list[tuple[float, float]]:
    """Corners of a four-pointed star whose points touch the middles of the box's sides."""
    radius, middle = (box.width - 1) / 2, (box.x + (box.width - 1) / 2, box.y + (box.height - 1) / 2)
    turns = np.arange(8) * np.pi / 4
    reach = np.where(np.arange(8) % 2 == 0, radius, radius * 0.35)
    return [
        (float(middle[0] + r * np.cos(t)), float(middle[1] + r * np.sin(t))) for r, t in zip(reach, turns, strict=True)
    ]
