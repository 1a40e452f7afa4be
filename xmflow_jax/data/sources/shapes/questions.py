"""Questions of the study's six kinds (arXiv 2411.18620, from GQA's question types) about a drawn scene.

Every question names its objects so that the scene holds exactly one such object, and every answer is as likely as the
other ones that its words allow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xmflow_jax.data.sources.shapes.scenes import SHAPES, VALUES, Scene, Thing


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        task: one of the study's six.
        things: indices of the scene's objects that it asks about and that are there.
        name: what the question calls the (first) object.
        true_option, false_option: where it offers a choice.
    """

    task: str
    text: str
    answer: str
    things: tuple[int, ...]
    name: str
    true_option: str | None = None
    false_option: str | None = None


def ask(scene: Scene, task: str, generator: np.random.Generator) -> Asked | None:
    """A question of this kind; None where the scene gives rise to none."""
    return _TASKS[task](scene, generator)


def _one_of(generator: np.random.Generator, choices: Sequence[int]) -> int:
    return choices[int(generator.integers(len(choices)))]


def _alone(scene: Scene, attribute: str) -> list[int]:
    """The things that no other one equals in this attribute."""
    values = [getattr(thing, attribute) for thing in scene.things]
    return [index for index, value in enumerate(values) if values.count(value) == 1]


def _options(generator: np.random.Generator, true: str, values: Sequence[str]) -> tuple[str, tuple[str, str]]:
    """A wrong value, and both in random order."""
    others = [value for value in values if value != true]
    false = others[int(generator.integers(len(others)))]
    return false, (true, false) if generator.integers(2) else (false, true)


def _choose_attribute(scene: Scene, generator: np.random.Generator) -> Asked | None:
    attribute = ("color", "size", "texture")[int(generator.integers(3))]
    candidates = _alone(scene, "shape") if attribute == "color" else list(range(len(scene.things)))
    if not candidates:
        return None
    index = _one_of(generator, candidates)
    thing = scene.things[index]
    name = thing.shape if attribute == "color" else thing.words
    true = getattr(thing, attribute)
    false, order = _options(generator, true, VALUES[attribute])
    return Asked("ChooseAttr", f"Is the {name} {order[0]} or {order[1]}?", true, (index,), name, true, false)


def _choose_category(scene: Scene, generator: np.random.Generator) -> Asked | None:
    candidates = _alone(scene, "color")
    if not candidates:
        return None
    index = _one_of(generator, candidates)
    thing = scene.things[index]
    false, order = _options(generator, thing.shape, SHAPES)
    text = f"Is the {thing.color} object a {order[0]} or a {order[1]}?"
    return Asked("ChooseCat", text, thing.shape, (index,), "object", thing.shape, false)


def _choose_relation(scene: Scene, generator: np.random.Generator) -> Asked | None:
    lattice = "column" if generator.integers(2) else "row"
    words = ("left", "right") if lattice == "column" else ("above", "below")
    pairs = [
        (first, second)
        for first, one in enumerate(scene.things)
        for second, other in enumerate(scene.things)
        if getattr(one, lattice) != getattr(other, lattice)
    ]
    if not pairs:
        return None
    first, second = pairs[int(generator.integers(len(pairs)))]
    one, other = scene.things[first], scene.things[second]
    true = words[int(getattr(one, lattice) > getattr(other, lattice))]
    false, order = _options(generator, true, words)
    joined = f"{order[0]} or {order[1]} of" if lattice == "column" else f"{order[0]} or {order[1]}"
    text = f"Is the {one.words} {joined} the {other.words}?"
    return Asked("ChooseRel", text, true, (first, second), one.words, true, false)


def _logical_object(scene: Scene, generator: np.random.Generator) -> Asked | None:
    """Are two objects there? One always is; the two differ in colour and shape, whatever the answer."""
    index = _one_of(generator, range(len(scene.things)))
    thing = scene.things[index]
    there = {(other.color, other.shape) for other in scene.things}

    def differs(color: str, shape: str) -> bool:
        return color != thing.color and shape != thing.shape

    # Asked first, so that yes and no are equally common: some scenes allow only one of them.
    seconds = [place for place, other in enumerate(scene.things) if differs(other.color, other.shape)]
    if not seconds:
        return None
    things: tuple[int, ...]
    if generator.integers(2):
        second = _one_of(generator, seconds)
        answer, things, words = "yes", (index, second), scene.things[second].words
    else:
        absent = [
            f"{color} {shape}"
            for color in VALUES["color"]
            for shape in SHAPES
            if differs(color, shape) and (color, shape) not in there
        ]
        answer, things, words = "no", (index,), absent[int(generator.integers(len(absent)))]
    first, last = (thing.words, words) if generator.integers(2) else (words, thing.words)
    return Asked("LogicalObj", f"Is there a {first} and a {last}?", answer, things, thing.words)


def _query_attribute(scene: Scene, generator: np.random.Generator) -> Asked | None:
    attribute = (*VALUES, "side")[int(generator.integers(len(VALUES) + 1))]
    if attribute == "side":
        candidates = [index for index, thing in enumerate(scene.things) if thing.column != 1]
    elif attribute in ("color", "shape"):
        candidates = _alone(scene, "shape" if attribute == "color" else "color")
    else:
        candidates = list(range(len(scene.things)))
    if not candidates:
        return None
    index = _one_of(generator, candidates)
    thing = scene.things[index]
    if attribute == "side":
        answer = "left" if thing.column == 0 else "right"
        return Asked("QueryAttr", f"On which side is the {thing.words}?", answer, (index,), thing.words)
    called = {"color": thing.shape, "shape": f"{thing.color} object"}.get(attribute, thing.words)
    name = "object" if attribute == "shape" else called
    return Asked("QueryAttr", f"What {attribute} is the {called}?", getattr(thing, attribute), (index,), name)


def _compare_attribute(scene: Scene, generator: np.random.Generator) -> Asked:
    first, second = scene.compared if generator.integers(2) else scene.compared[::-1]

    def name(thing: Thing) -> str:
        return thing.shape if scene.called_by == "shape" else f"{thing.color} object"

    one, other = name(scene.things[first]), name(scene.things[second])
    text = f"What do the {one} and the {other} share?"
    return Asked("CompareAttr", text, scene.shared, (first, second), one if scene.called_by == "shape" else "object")


_TASKS: Final[dict[str, Callable[[Scene, np.random.Generator], Asked | None]]] = {
    "ChooseAttr": _choose_attribute,
    "ChooseCat": _choose_category,
    "QueryAttr": _query_attribute,
    "LogicalObj": _logical_object,
    "ChooseRel": _choose_relation,
    "CompareAttr": _compare_attribute,
}
