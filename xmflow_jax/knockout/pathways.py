"""Pathways: `source role -> target role`, written `Image->Question`; targets may not attend to sources."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from xmflow_jax.data import roles
from xmflow_jax.data.roles import parse_role
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.windows import parse_style

T = TypeVar("T")


@dataclass(frozen=True)
class Pathway:
    """Two roles in their canonical spelling."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


# The six pathways of the study's figures, in the order of its figures.
STUDY_PATHWAYS: Final = (
    Pathway(roles.QUESTION, roles.LAST),
    Pathway(roles.IMAGE, roles.LAST),
    Pathway(roles.LAST, roles.LAST),
    Pathway(roles.IMAGE, roles.QUESTION),
    Pathway(roles.IMAGE_CENTRAL_OBJECT, roles.QUESTION),
    Pathway(roles.IMAGE_WITHOUT_CENTRAL_OBJECT, roles.QUESTION),
)


def parse_pathway(text: str) -> Pathway:
    """`"Image->Question"` to a pathway; case and surrounding space do not matter.

    Raises:
        OptionError: not of this form, or a role is unknown.
    """
    source, arrow, target = text.partition("->")
    if not arrow or "->" in target:
        raise OptionError(f"pathway {text.strip()!r} is not of the form 'source->target', such as 'Image->Question'")
    return Pathway(parse_role(source), parse_role(target))


def parse_styled(text: str, style: str, parse: Callable[[str], T], noun: str) -> tuple[tuple[T, str], ...]:
    """A comma-separated list, each of whose parts may have a window style behind `@`.

    Args:
        text: the list; a part without `@` gets `style`.
        style: the default window style.
        parse: reads what stands before the `@`.
        noun: what the parts are called, for the messages.

    Raises:
        OptionError: the list is empty or names a part with one style twice, or a part cannot be parsed.
    """
    parsed = []
    for part in text.split(","):
        if not part.strip():
            raise OptionError(f"the list of {noun}s {text!r} has an empty place")
        what, at, own_style = part.partition("@")
        parsed.append((parse(what), parse_style(own_style if at else style)))
    if len(set(parsed)) < len(parsed):
        raise OptionError(f"the list of {noun}s {text!r} names one {noun} twice")
    return tuple(parsed)


def parse_pathways(text: str, style: str) -> tuple[tuple[Pathway, str], ...]:
    """A comma-separated list, each with its window style: `"Image->Question, Image->Last@to-end"`.

    Args:
        text: the list; a pathway without `@` gets `style`.
        style: the default window style.

    Raises:
        OptionError: the list is empty or names a pathway with one style twice, or a part cannot be parsed.
    """
    return parse_styled(text, style, parse_pathway, "pathway")
