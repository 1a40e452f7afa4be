"""Outputs that can be zeroed, as they are written: `self:Image` is what self-attention adds at image positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from xmflow_jax.data.roles import parse_role
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.pathways import parse_styled
from xmflow_jax.nn.anatomy import CROSS, MLP, SELF, Site

# The outputs of a block by the names of its sublayers.
SUBLAYERS: Final[Mapping[str, Site]] = {site.name: site for site in (SELF, CROSS, MLP)}


@dataclass(frozen=True)
class OutputPlace:
    """The output of a sublayer (`self`, `cross` or `mlp`) at the positions of a role."""

    sublayer: str
    role: str

    def __str__(self) -> str:
        return f"{self.sublayer}:{self.role}"


def parse_output_place(text: str) -> OutputPlace:
    """`"self:Image"` to an output's place; case and surrounding space do not matter.

    Raises:
        OptionError: not of this form, or there is no such sublayer or role.
    """
    sublayer, colon, role = text.partition(":")
    if not colon:
        raise OptionError(f"output {text.strip()!r} is not of the form 'sublayer:role', such as 'self:Image'")
    name = sublayer.strip().lower()
    if name not in SUBLAYERS:
        raise OptionError(f"unknown sublayer {sublayer.strip()!r}; the sublayers are: {', '.join(SUBLAYERS)}")
    return OutputPlace(name, parse_role(role))


def parse_output_places(text: str, style: str) -> tuple[tuple[OutputPlace, str], ...]:
    """A comma-separated list, each with its window style: `"self:Image, mlp:Last@single"`.

    Args:
        text: the list; an output without `@` gets `style`.
        style: the default window style.

    Raises:
        OptionError: the list is empty or names an output with one style twice, or a part cannot be parsed.
    """
    return parse_styled(text, style, parse_output_place, "output")
