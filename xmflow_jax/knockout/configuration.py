"""Knockouts as a person states them: which edges or outputs, in which layers and heads.

A study has a few actions (edge sets between roles, or outputs of a role's positions) and many configurations, each of
which switches actions on in some layers. `arrays.py` turns both into the small pytrees that the engines take.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool

from xmflow_jax.data.roles import ALL
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.windows import CENTRED, window_layers

MASK: Final = "mask"
ZERO: Final = "zero"
MODES: Final = (MASK, ZERO)

ATTENTION_OUTPUT: Final = "attention-output"
MLP_OUTPUT: Final = "mlp-output"
OUTPUTS: Final = (ATTENTION_OUTPUT, MLP_OUTPUT)


@dataclass(frozen=True)
class RoleSet:
    """A role's positions, or all the prompt's other positions."""

    role: str
    complement: bool = False

    def positions(self, roles: Mapping[str, Bool[np.ndarray, " position"]]) -> Bool[np.ndarray, " position"]:
        """Boolean [position] of one prompt."""
        return ~roles[self.role] if self.complement else roles[self.role]


@dataclass(frozen=True)
class Edges:
    """Attention edges from every source to every target; causality takes away those that do not exist.

    `mask` removes them before the softmax, as the study does; `zero` sets their weights to zero after it, and the
    others are not renormalised.
    """

    source: RoleSet
    target: RoleSet
    mode: str = MASK


@dataclass(frozen=True)
class Output:
    """What attention (after its output projection) or the MLP adds at a role's positions, set to zero."""

    site: str
    target: RoleSet


Action = Edges | Output


@dataclass(frozen=True)
class Knockout:
    """One configuration: actions, each with the layers and heads in which it is switched on.

    Attributes:
        switched: (action, layers, heads); heads None means all of them, and outputs have no heads.
    """

    switched: tuple[tuple[Action, tuple[int, ...], tuple[int, ...] | None], ...] = ()


NOTHING: Final = Knockout()


def block(pathway: Pathway, layers: Iterable[int], mode: str = MASK, heads: Iterable[int] | None = None) -> Knockout:
    """Targets of the pathway may not attend to its sources in these layers (and heads).

    Raises:
        OptionError: the mode is unknown.
    """
    if mode not in MODES:
        raise OptionError(f"unknown knockout mode {mode!r}; the modes are: {', '.join(MODES)}")
    edges = Edges(RoleSet(pathway.source), RoleSet(pathway.target), mode)
    return Knockout(((edges, tuple(layers), None if heads is None else tuple(heads)),))


def keep_only(pathway: Pathway, layers: Iterable[int]) -> Knockout:
    """Every edge is blocked except the pathway's: is this pathway enough?

    The complement of sources x targets is a union of two such products, so it needs nothing new: everything to all
    other targets, and all other sources to its targets.
    """
    layers = tuple(layers)
    others = Edges(RoleSet(ALL), RoleSet(pathway.target, complement=True))
    rest = Edges(RoleSet(pathway.source, complement=True), RoleSet(pathway.target))
    return Knockout(((others, layers, None), (rest, layers, None)))


def zero_output(site: str, role: str, layers: Iterable[int]) -> Knockout:
    """The attention or MLP output of a role's positions is zero in these layers.

    Raises:
        OptionError: the site is unknown.
    """
    if site not in OUTPUTS:
        raise OptionError(f"unknown output {site!r}; the outputs are: {', '.join(OUTPUTS)}")
    return Knockout(((Output(site, RoleSet(role)), tuple(layers), None),))


def combine(*knockouts: Knockout) -> Knockout:
    """All of them at once."""
    return Knockout(tuple(part for knockout in knockouts for part in knockout.switched))


@dataclass(frozen=True)
class StudyRow:
    """What a result row says about its configuration; `window` is the option's width for centred windows, and the
    number of blocked layers for the other styles."""

    pathway: Pathway
    style: str
    layer: int
    window: int
    knockout: Knockout


def pathway_study(
    pathways: Iterable[tuple[Pathway, str]],
    layers: int,
    width: int,
    mode: str = MASK,
    heads: Iterable[int] | None = None,
) -> tuple[StudyRow, ...]:
    """One configuration for each pathway, style and layer, in this order."""
    heads = None if heads is None else tuple(heads)
    rows = []
    for pathway, style in pathways:
        for layer in range(layers):
            blocked = window_layers(style, layer, width, layers)
            window = width if style == CENTRED else len(blocked)
            rows.append(StudyRow(pathway, style, layer, window, block(pathway, blocked, mode, heads)))
    return tuple(rows)
