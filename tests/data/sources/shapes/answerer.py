"""Answers questions from their wording and a list of things alone, knowing nothing of how questions are made.

Places are compared by the boxes in pixels, not by rows and columns of the lattice.
"""

import re
from collections.abc import Sequence
from functools import cache

from xmflow_jax.data.sources.shapes.scenes import Thing

ATTRIBUTES = {
    "color": {"red", "green", "blue", "yellow", "purple", "cyan"},
    "shape": {"circle", "square", "triangle", "diamond", "star"},
    "size": {"small", "large"},
    "texture": {"solid", "striped"},
}
SIDE = 96


def named(expression: str, things: Sequence[Thing]) -> list[int]:
    """The things that `red circle`, `circle` or `red object` can mean."""
    words = [word for word in expression.split() if word != "object"]
    assert set(words) <= ATTRIBUTES["color"] | ATTRIBUTES["shape"], expression
    return [index for index, thing in enumerate(things) if set(words) <= {thing.color, thing.shape}]


@cache
def expressions(text: str) -> list[str]:
    """The parts of a question that name things, in the order of its words."""
    return [found for pattern in PATTERNS if (match := re.fullmatch(pattern, text)) for found in _named_groups(match)]


@cache
def options(text: str) -> tuple[str, ...]:
    """The two answers that a question offers, in the order of its words, if it offers any."""
    matches = (re.fullmatch(pattern, text) for pattern in PATTERNS)
    return tuple(match[name] for match in matches if match for name in ("first", "second") if name in match.groupdict())


def answer(text: str, things: Sequence[Thing]) -> str:
    """The true answer. Fails where the question has none, or means none or several of the things."""
    (match,) = (found for pattern in PATTERNS if (found := re.fullmatch(pattern, text)))
    if text.startswith("Is there"):
        counts = [len(named(expression, things)) for expression in _named_groups(match)]
        assert max(counts) <= 1
        return "yes" if min(counts) == 1 else "no"
    meant = [named(expression, things) for expression in _named_groups(match)]
    assert all(len(indices) == 1 for indices in meant), text
    one, *others = (things[indices[0]] for indices in meant)
    if text.startswith("What do"):
        (shared,) = (name for name in ATTRIBUTES if getattr(one, name) == getattr(others[0], name))
        return shared
    if text.startswith("What"):
        return str(getattr(one, match["attribute"]))
    if text.startswith("On which side"):
        true = [_left_of_middle(one), _right_of_middle(one)]
        return _the_one_that_is(dict(zip(("left", "right"), true, strict=True)))
    holds = {option: _holds(option, one, others) for option in options(text)}
    return _the_one_that_is(holds)


_THING = r"(?P<thing>[a-z]+(?: [a-z]+)?)"
_OTHER = r"(?P<other>[a-z]+(?: [a-z]+)?)"
PATTERNS = (
    rf"Is the {_THING} (?P<first>(?!left|right|above|below)\w+) or (?P<second>\w+)\?",
    rf"Is the {_THING} a (?P<first>\w+) or a (?P<second>\w+)\?",
    rf"Is the {_THING} (?P<first>left|right) or (?P<second>left|right) of the {_OTHER}\?",
    rf"Is the {_THING} (?P<first>above|below) or (?P<second>above|below) the {_OTHER}\?",
    rf"Is there a {_THING} and a {_OTHER}\?",
    rf"What (?P<attribute>color|shape|size|texture) is the {_THING}\?",
    rf"On which side is the {_THING}\?",
    rf"What do the {_THING} and the {_OTHER} share\?",
)


def _named_groups(match: re.Match[str]) -> list[str]:
    return [match[name] for name in ("thing", "other") if name in match.groupdict()]


def _holds(option: str, one: Thing, others: Sequence[Thing]) -> bool:
    if others:
        box, other = one.box, others[0].box
        return {
            "left": box.x + box.width <= other.x,
            "right": other.x + other.width <= box.x,
            "above": box.y + box.height <= other.y,
            "below": other.y + other.height <= box.y,
        }[option]
    (attribute,) = (name for name, values in ATTRIBUTES.items() if option in values)
    return bool(getattr(one, attribute) == option)


def _left_of_middle(thing: Thing) -> bool:
    return 2 * (thing.box.x + thing.box.width) <= SIDE


def _right_of_middle(thing: Thing) -> bool:
    return 2 * thing.box.x >= SIDE


def _the_one_that_is(holds: dict[str, bool]) -> str:
    (true,) = (option for option, is_true in holds.items() if is_true)
    return true
