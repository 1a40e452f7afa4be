"""Scenes of a few objects on a lattice, and their pixels. A scene follows from (seed, split, index) alone.

All values of an attribute are interchangeable: no colour, shape, size, texture or place is likelier than another, nor
likelier beside another. So the words of a question do not tell its answer.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from xmflow_jax.data.question import Box

COLORS: Final = {
    "red": (214, 40, 40),
    "green": (42, 157, 63),
    "blue": (38, 84, 214),
    "yellow": (235, 195, 30),
    "purple": (140, 60, 180),
    "cyan": (40, 180, 200),
}
SHAPES: Final = ("circle", "square", "triangle", "diamond", "star")
SIZES: Final = ("small", "large")
TEXTURES: Final = ("solid", "striped")

# The four attributes and their values, in the spelling of questions and answers.
VALUES: Final = {"color": tuple(COLORS), "shape": SHAPES, "size": SIZES, "texture": TEXTURES}

IMAGE_SIZE: Final = 96
LATTICE: Final = 3
CELL: Final = IMAGE_SIZE // LATTICE
JITTER: Final = 3
RADIUS: Final = {"small": 7, "large": 12}
SPLITS: Final = ("train", "validation", "test")

_STRIPE: Final = 2  # pixels of colour, then as many of white
_WHITE: Final = 255


@dataclass(frozen=True)
class Thing:
    """One object. `row` and `column` are its place in the lattice, `x` and `y` its middle in pixels."""

    color: str
    shape: str
    size: str
    texture: str
    row: int
    column: int
    x: int
    y: int

    @property
    def box(self) -> Box:
        """The smallest box around what is drawn."""
        sprite = _sprite(self.shape, self.size)
        rows, columns = np.flatnonzero(sprite.any(1)), np.flatnonzero(sprite.any(0))
        corner = self.x - len(sprite) // 2, self.y - len(sprite) // 2
        return Box(
            corner[0] + int(columns[0]),
            corner[1] + int(rows[0]),
            int(columns[-1] - columns[0]) + 1,
            int(rows[-1] - rows[0]) + 1,
        )

    @property
    def words(self) -> str:
        """What names it in its scene, since no two objects share both: `red circle`."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Two to five things, no two of one colour and shape.

    Attributes:
        compared: two things that share exactly one attribute besides what questions call them by, and by which
            attribute (`color` or `shape`) a question can call them, because no other thing has the same.
        shared: the attribute that they share.
    """

    things: tuple[Thing, ...]
    compared: tuple[int, int]
    called_by: str
    shared: str
    background: int


def draw_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one scene and its questions."""
    return np.random.default_rng((seed, SPLITS.index(split), index))


def draw_scene(generator: np.random.Generator) -> Scene:
    """One scene.

    The pair to compare is planted, with every shared attribute equally likely; among freely drawn objects a shared
    size would be four times as common as a shared colour.
    """
    count = int(generator.integers(2, 6))
    called_by = ("color", "shape")[int(generator.integers(2))]
    comparable = [attribute for attribute in VALUES if attribute != called_by]
    shared = comparable[int(generator.integers(len(comparable)))]
    looks: list[dict[str, str]] = [{}, {}]
    for attribute, values in VALUES.items():
        first, second = generator.permutation(len(values))[:2]
        looks[0][attribute] = values[first]
        looks[1][attribute] = values[first if attribute == shared else second]
    taken = {look[called_by] for look in looks}
    while len(looks) < count:
        look = {attribute: values[int(generator.integers(len(values)))] for attribute, values in VALUES.items()}
        if look[called_by] not in taken and all(
            (look["color"], look["shape"]) != (other["color"], other["shape"]) for other in looks
        ):
            looks.append(look)
    places = generator.permutation(LATTICE**2)[:count]
    jitter = generator.integers(-JITTER, JITTER + 1, (count, 2))
    things = [
        Thing(
            **look,
            row=int(place) // LATTICE,
            column=int(place) % LATTICE,
            x=int(place) % LATTICE * CELL + CELL // 2 + int(shift[0]),
            y=int(place) // LATTICE * CELL + CELL // 2 + int(shift[1]),
        )
        for look, place, shift in zip(looks, places, jitter, strict=True)
    ]
    return Scene(tuple(things), (0, 1), called_by, shared, int(generator.integers(60, 120)))


def paint(scene: Scene) -> UInt8[np.ndarray, "height width 3"]:
    """The scene's pixels."""
    pixels = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), scene.background, np.uint8)
    for thing, mask in zip(scene.things, footprints(scene), strict=True):
        pixels[mask] = COLORS[thing.color]
        if thing.texture == "striped":
            stripes = (np.arange(IMAGE_SIZE) - thing.y) // _STRIPE % 2 == 1
            pixels[mask & stripes[:, None]] = _WHITE
    return pixels


def footprints(scene: Scene) -> list[Bool[np.ndarray, "height width"]]:
    """The pixels of each thing; no two things share one."""
    masks = []
    for thing in scene.things:
        sprite = _sprite(thing.shape, thing.size)
        reach = len(sprite) // 2
        mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
        mask[thing.y - reach : thing.y + reach + 1, thing.x - reach : thing.x + reach + 1] = sprite
        masks.append(mask)
    return masks


@lru_cache(maxsize=len(SHAPES) * len(SIZES))
def _sprite(shape: str, size: str) -> Bool[np.ndarray, "side side"]:
    """A shape's pixels around its middle; the shapes are about equally large."""
    radius = RADIUS[size]
    side = 2 * radius + 1
    down, across = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    if shape == "circle":
        return across**2 + down**2 <= (radius - 0.5) ** 2
    if shape == "square":
        return np.maximum(abs(across), abs(down)) <= round(radius * 0.8)
    if shape == "diamond":
        return abs(across) + abs(down) <= radius
    if shape == "triangle":
        return abs(across) <= (down + radius) / 2
    turns = np.arange(10) * np.pi / 5
    reach = np.where(np.arange(10) % 2 == 0, radius, radius * 0.42)
    corners = zip(radius + reach * np.sin(turns), radius - reach * np.cos(turns), strict=True)
    star = Image.new("1", (side, side))
    ImageDraw.Draw(star).polygon([(float(x), float(y)) for x, y in corners], fill=1)
    return np.asarray(star)
