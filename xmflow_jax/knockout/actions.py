"""Knockouts as a person states them: which edges or outputs, in which layers and heads.

A study has a few actions (edge sets between roles, or outputs of a role's positions) and many configurations, each of
which switches actions on in some layers. `arrays.py` turns both into the small pytrees that the engines take.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool

from xmflow_jax.data.roles import ALL, IMAGE, IMAGE_ROLES, LAST
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.run import row_words

MASK: Final = "mask"
ZERO: Final = "zero"
MODES: Final = (MASK, ZERO)

ATTENTION_OUTPUT: Final = "attention-output"
CROSS_OUTPUT: Final = "cross-attention-output"
MLP_OUTPUT: Final = "mlp-output"
OUTPUTS: Final = (ATTENTION_OUTPUT, CROSS_OUTPUT, MLP_OUTPUT)


@dataclass(frozen=True)
class RoleSet:
    """A role's positions, or all the prompt's other positions."""

    role: str
    complement: bool = False

    def positions(self, roles: Mapping[str, Bool[np.ndarray, " _"]]) -> Bool[np.ndarray, " _"]:
        """Boolean [position] of one prompt, or over the encoder's positions for a role of the image's."""
        return ~roles[self.role] if self.complement else roles[self.role]

    @property
    def generated(self) -> bool:
        """Whether the positions of generated answer tokens are among them.

        They belong to the roles `Last` (as in the study) and `All`, as sources and as targets, and to no other. So the
        complement of any other role holds them: keep-only treats them as it treats the prompt's other positions.
        """
        return (self.role in (LAST, ALL)) != self.complement


@dataclass(frozen=True)
class Edges:
    """Attention edges from every source to every target; causality takes away those that do not exist.

    `mask` removes them before the softmax, as the study does; `zero` sets their weights to zero after it, and the
    others are not renormalised.

    Attributes:
        cross: the sources are the encoder's positions, which the targets read by cross-attention.
    """

    source: RoleSet
    target: RoleSet
    mode: str = MASK
    cross: bool = False


@dataclass(frozen=True)
class Output:
    """What self- or cross-attention (after its projection) or the MLP adds at a role's positions, set to zero."""

    site: str
    target: RoleSet


@dataclass(frozen=True)
class DrawnEdges:
    """As many edges as `like` blocks, of each target row, drawn at random: its matched control (`controls.py`).

    Attributes:
        like: the pathway's edges.
        draw: 1 for the first control of a pathway, 2 for the second, ...
        seed: of the run.
        cross_attention: the model reads the image by cross-attention, so that a row sees visual positions too.
    """

    like: Edges
    draw: int
    seed: int
    cross_attention: bool = False

    @property
    def target(self) -> RoleSet:
        """The pathway's."""
        return self.like.target


Action = Edges | Output | DrawnEdges


@dataclass(frozen=True)
class Knockout:
    """One configuration: actions, each with the layers and heads in which it is switched on.

    Attributes:
        switched: (action, layers, heads); heads None means all of them, and outputs have no heads.
    """

    switched: tuple[tuple[Action, tuple[int, ...], tuple[int, ...] | None], ...] = ()


NOTHING: Final = Knockout()

# Where a row says which head is blocked: all that the study asks for, at once.
TOGETHER: Final = row_words.TOGETHER


def block(
    pathway: Pathway,
    layers: Iterable[int],
    mode: str = MASK,
    heads: Iterable[int] | None = None,
    cross_attention: bool = False,
) -> Knockout:
    """Targets of the pathway may not attend to its sources in these layers (and heads).

    Where every source of a target's cross-attention is blocked, the heads' weighted sum there is zero: with
    `Image->All` these are the knocked-out cross-attention layers of the user's definition.

    Args:
        cross_attention: the model reads the image by cross-attention, so that image roles are the encoder's positions.

    Raises:
        OptionError: the mode is unknown.
    """
    if mode not in MODES:
        raise OptionError(f"unknown knockout mode {mode!r}; the modes are: {', '.join(MODES)}")
    cross = cross_attention and pathway.source in IMAGE_ROLES
    edges = Edges(RoleSet(pathway.source), RoleSet(pathway.target), mode, cross)
    return Knockout(((edges, tuple(layers), None if heads is None else tuple(heads)),))


def keep_only(pathway: Pathway, layers: Iterable[int], cross_attention: bool = False) -> Knockout:
    """Every edge is blocked except the pathway's: is this pathway enough?

    The complement of sources x targets is a union of two such products, so it needs nothing new: everything to all
    other targets, and all other sources to its targets. Of self- and cross-attention, the one that the pathway is not
    about is blocked altogether.

    Args:
        cross_attention: see `block`.
    """
    layers = tuple(layers)
    cross = cross_attention and pathway.source in IMAGE_ROLES
    everything = RoleSet(IMAGE if cross else ALL)
    edges = [
        Edges(everything, RoleSet(pathway.target, complement=True), cross=cross),
        Edges(RoleSet(pathway.source, complement=True), RoleSet(pathway.target), cross=cross),
    ]
    if cross_attention:
        edges.append(Edges(RoleSet(ALL if cross else IMAGE), RoleSet(ALL), cross=not cross))
    return Knockout(tuple((one, layers, None) for one in edges))


def matched_control(knockout: Knockout, draw: int, seed: int, cross_attention: bool = False) -> Knockout:
    """The same layers and heads with drawn edges in place of the knockout's.

    Args:
        draw, seed: see `DrawnEdges`.
        cross_attention: see `block`.
    """
    return Knockout(
        tuple(
            (DrawnEdges(action, draw, seed, cross_attention) if isinstance(action, Edges) else action, layers, heads)
            for action, layers, heads in knockout.switched
        )
    )


def only_head(knockout: Knockout, head: int) -> Knockout:
    """The same edges in the same layers, but in one head alone."""
    return Knockout(tuple((action, layers, (head,)) for action, layers, _ in knockout.switched))


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
