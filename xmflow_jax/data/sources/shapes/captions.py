"""Captions of drawn scenes, in the words of the questions and a few more."""

from typing import Final

from xmflow_jax.data.sources.shapes.scenes import Scene, Thing

_ROWS: Final = ("top", "middle", "bottom")
_COLUMNS: Final = ("left", "center", "right")


def caption(scene: Scene) -> str:
    """One sentence that tells every thing's size, texture, colour, shape and place, in reading order.

    Scenes whose things differ in none of these have the same caption, wherever in their cells the things lie.
    """
    *most, last = (_phrase(thing) for thing in sorted(scene.things, key=lambda thing: (thing.row, thing.column)))
    sentence = f"{', '.join(most)} and {last}."
    return sentence[0].upper() + sentence[1:]


def _phrase(thing: Thing) -> str:
    row, column = _ROWS[thing.row], _COLUMNS[thing.column]
    place = "in the center" if (row, column) == ("middle", "center") else f"at the {row} {column}"
    return f"a {thing.size} {thing.texture} {thing.words} {place}"
