"""Captions are read back: they must tell every thing of the scene, in order, and nothing else."""

import re

from tests.data.sources.shapes.answerer import ATTRIBUTES
from xmflow_jax.data.sources.shapes.captions import caption
from xmflow_jax.data.sources.shapes.scenes import Scene, draw_generator, draw_scene
from xmflow_jax.data.sources.shapes.tokenizer import vocabulary

PLACES = {
    f"at the {row} {column}" if (row, column) != ("middle", "center") else "in the center": (down, across)
    for down, row in enumerate(("top", "middle", "bottom"))
    for across, column in enumerate(("left", "center", "right"))
}
Told = tuple[str, str, str, str, int, int]


def scenes(count: int) -> list[Scene]:
    return [draw_scene(draw_generator(2, "validation", index)) for index in range(count)]


def read_back(text: str) -> list[Told]:
    """(size, texture, colour, shape, row, column) of the things in the order told."""
    assert text.startswith("A ")
    assert text.endswith(".")
    told: list[Told] = []
    for part in re.split(", | and ", text.removesuffix(".")):
        match = re.fullmatch(r"(?:a|A) (\w+) (\w+) (\w+) (\w+) ((?:at|in) .+)", part)
        assert match, part
        size, texture, color, shape = match.groups()[:4]
        assert size in ATTRIBUTES["size"]
        assert texture in ATTRIBUTES["texture"]
        assert color in ATTRIBUTES["color"]
        assert shape in ATTRIBUTES["shape"]
        told.append((size, texture, color, shape, *PLACES[match[5]]))
    return told


def described(scene: Scene) -> set[Told]:
    return {(thing.size, thing.texture, thing.color, thing.shape, thing.row, thing.column) for thing in scene.things}


def test_every_thing_is_told_once_in_reading_order() -> None:
    for scene in scenes(1_000):
        told = read_back(caption(scene))
        assert set(told) == described(scene)
        places = [thing[4:] for thing in told]
        assert places == sorted(set(places))


def test_different_scenes_have_different_captions() -> None:
    drawn = scenes(1_000)
    assert len({caption(scene) for scene in drawn}) == len({frozenset(described(scene)) for scene in drawn})
    assert len({caption(scene) for scene in drawn[:500]}) == 500


def test_every_word_is_in_the_vocabulary() -> None:
    known = set(vocabulary())
    for scene in scenes(1_000):
        words = re.findall(r"\w+|[^\w\s]", caption(scene))
        assert {word if word in ",." else f"▁{word}" for word in words} <= known
