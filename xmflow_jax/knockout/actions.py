"""Knockouts as a person states them: which edges or outputs, in which layers and heads.

A study has a few actions (edge sets between roles, or outputs of a role's positions) and many configurations, each of
which switches actions on in some layers. `arrays.py` turns both into the small pytrees that the engines take.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from xmflow_jax.data.roles import ALL, IMAGE, IMAGE_ROLES
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.kinds.drawn import DrawnEdges
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.kinds.kind import Action
from xmflow_jax.knockout.kinds.outputs import Output
from xmflow_jax.knockout.modes import MASK, check_mode
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.nn.anatomy import NOTHING, OWN, SELF, VISUAL, Anatomy, Site
from xmflow_jax.run import row_words


@dataclass(frozen=True)
class Knockout:
    """One configuration: actions, each with the layers and heads in which it is switched on.

    Attributes:
        switched: (action, layers of its stack, heads); heads None means all of them, and outputs have no heads.
    """

    switched: tuple[tuple[Action, tuple[int, ...], tuple[int, ...] | None], ...] = ()


NOTHING_BLOCKED: Final = Knockout()

# Where a row says which head is blocked: all that the study asks for, at once.
TOGETHER: Final = row_words.TOGETHER


def attending_sites(anatomy: Anatomy, stack: str) -> tuple[Site, ...]:
    """The sites of a stack that attend, in order of first use."""
    shape = next(one for one in anatomy.stacks if one.name == stack)
    return tuple(site for site in anatomy.sites(shape) if site.reads != NOTHING)


def pathway_site(pathway: Pathway, anatomy: Anatomy) -> Site:
    """The site of the main stack that a pathway is about: where the image is read from outside, image roles are those
    of the site that reads it; everything else stands among the stack's own positions.

    Raises:
        OptionError: the model has no such site.
    """
    reads = VISUAL if pathway.source in IMAGE_ROLES and not anatomy.image_in_prompt else OWN
    for site in attending_sites(anatomy, anatomy.main.name):
        if site.reads == reads:
            return site
    raise OptionError(f"{pathway}: no layer of the model reads {pathway.source}")


def block(
    pathway: Pathway,
    layers: Iterable[int],
    mode: str = MASK,
    heads: Iterable[int] | None = None,
    site: Site = SELF,
) -> Knockout:
    """Targets of the pathway may not attend to its sources in these layers (and heads).

    Where every source of a target's cross-attention is blocked, the heads' weighted sum there is zero: with
    `Image->All` these are the knocked-out cross-attention layers of the user's definition.

    Args:
        mode: what becomes of the edges (`modes`).
        site: where the edges are, such as `pathway_site(pathway, anatomy)`.

    Raises:
        OptionError: the mode is unknown.
    """
    edges = Edges(RoleSet(pathway.source), RoleSet(pathway.target), check_mode(mode), site)
    return Knockout(((edges, tuple(layers), None if heads is None else tuple(heads)),))


def keep_only(pathway: Pathway, layers: Iterable[int], anatomy: Anatomy) -> Knockout:
    """Every edge of the main stack is blocked except the pathway's: is this pathway enough?

    The complement of sources x targets is a union of two such products, so it needs nothing new: everything to all
    other targets, and all other sources to its targets. A site that the pathway is not about is blocked altogether.
    """
    layers, kept = tuple(layers), pathway_site(pathway, anatomy)
    edges = []
    for site in attending_sites(anatomy, anatomy.main.name):
        everything = RoleSet(IMAGE if site.reads == VISUAL else ALL)
        if site != kept:
            edges.append(Edges(everything, RoleSet(ALL), site=site))
            continue
        edges.append(Edges(everything, RoleSet(pathway.target, complement=True), site=site))
        edges.append(Edges(RoleSet(pathway.source, complement=True), RoleSet(pathway.target), site=site))
    return Knockout(tuple((one, layers, None) for one in edges))


def matched_control(knockout: Knockout, draw: int, seed: int, sites: tuple[Site, ...] = (SELF,)) -> Knockout:
    """The same layers and heads with drawn edges in place of the knockout's.

    Args:
        draw, seed, sites: see `DrawnEdges`.
    """
    return Knockout(
        tuple(
            (DrawnEdges(action, draw, seed, sites) if isinstance(action, Edges) else action, layers, heads)
            for action, layers, heads in knockout.switched
        )
    )


def only_head(knockout: Knockout, head: int) -> Knockout:
    """The same edges in the same layers, but in one head alone."""
    return Knockout(tuple((action, layers, (head,)) for action, layers, _ in knockout.switched))


def zero_output(site: Site, role: str, layers: Iterable[int]) -> Knockout:
    """What a sublayer adds at a role's positions is zero in these layers."""
    return Knockout(((Output(site, RoleSet(role)), tuple(layers), None),))


def combine(*knockouts: Knockout) -> Knockout:
    """All of them at once."""
    return Knockout(tuple(part for knockout in knockouts for part in knockout.switched))
