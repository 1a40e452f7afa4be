"""As many edges as a pathway blocks, of each target row, drawn at random: its matched control (`controls.py`).

They are no product of targets and sources, so the dense matrix itself stands beside the switches, once per prompt,
whatever the number of layers and configurations. A draw may reach what every site of a stack reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from xmflow_jax.knockout.controls import Prompt, draw_edges, overlap, pathway_edges
from xmflow_jax.knockout.kinds import edges
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.kinds.kind import Bank, Changed, Kind, PromptRoles, Shown, Sight, View, pad_last
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.nn.anatomy import OWN, Site

NAME: Final = "drawn edges"
Masks = Any


@dataclass(frozen=True)
class DrawnEdges:
    """The matched control of a pathway's edges.

    Attributes:
        like: the pathway's edges.
        draw: 1 for the first control of a pathway, 2 for the second, ...
        seed: of the run.
        sites: those of the stack that attend; what they read is drawn from.
    """

    like: Edges
    draw: int
    seed: int
    sites: tuple[Site, ...]

    @property
    def target(self) -> RoleSet:
        """The pathway's."""
        return self.like.target


def control_overlap(action: DrawnEdges, prompt: Prompt) -> float:
    """The share (0 to 1) of a control's edges that are its pathway's too, generated positions not counted."""
    drawn = draw_edges(action.like, action.draw, action.seed, action.sites, prompt)
    return overlap(drawn, pathway_edges(action.like, action.sites, prompt))


def drawn_mask(
    switch: Bool[Masks, "*config action head"], dense: Bool[Masks, "*batch action target source"]
) -> Bool[Array, "..."]:
    """Dense [head, target, source] of the switched drawn edges; a small matmul, as `edges.edge_mask` is."""
    return jnp.einsum("...ah,...ats->...hts", switch.astype(jnp.float32), dense.astype(jnp.float32)) > 0.5


def _build(
    bank: Bank, actions: Sequence[DrawnEdges], prompts: PromptRoles
) -> Bool[Masks, "batch action position source"]:
    site = bank.site
    shape = (len(prompts.roles), len(actions), prompts.length[site.stack], prompts.sources(site))
    out = np.zeros(shape, bool)
    if actions and (prompts.keys is None or len(prompts.keys) != len(prompts.roles)):
        raise ValueError(f"drawn edges need a key for each of {len(prompts.roles)} prompts, not {prompts.keys}")
    generated = prompts.generated if site.stack == prompts.main else 0
    for row, column in np.ndindex(out.shape[:2]):
        action = actions[column]
        prompt = Prompt(prompts.roles[row], (prompts.keys or ())[row], prompts.blocks_of(row, site.stack))
        drawn = draw_edges(action.like, action.draw, action.seed, action.sites, prompt, generated)
        own = drawn.own if site.reads == OWN else drawn.outside
        out[(row, column, *map(slice, own.shape))] = own
    return out


def _pad(bank: Bank, dense: Bool[Masks, "batch action position source"], more: int) -> Bool[Array, "..."]:
    return pad_last(dense, more, (-2, -1) if bank.site.reads == OWN else (-2,))


def _changed(bank: Bank, action: DrawnEdges, dense: Bool[Masks, "batch position source"], sight: Sight) -> Changed:
    return Changed(dense.any(2), None)


def _edges(switch: Array, dense: Bool[Masks, "batch action position source"], view: View) -> Bool[Array, "..."]:
    return drawn_mask(switch, view.of_edges(dense))


def _probe(bank: Bank, action: DrawnEdges, prompt: Prompt) -> Shown:
    """The sources of the last target that has any: a control's targets have sources of their own each."""
    drawn = draw_edges(action.like, action.draw, action.seed, action.sites, prompt)
    dense = drawn.own if bank.site.reads == OWN else drawn.outside
    row = np.flatnonzero(dense.any(1)).max(initial=0)
    return Shown(dense[row], np.arange(len(dense)) == row)


KIND: Final = Kind(
    NAME,
    DrawnEdges,
    by_head=True,
    banks=lambda action: tuple(Bank(site, NAME, action.like.mode) for site in action.sites),
    ends=lambda action: edges.KIND.ends(action.like),
    build=_build,
    pad=_pad,
    rows=lambda dense: dense.shape[1],
    changed=_changed,
    edges=_edges,
    probe=_probe,
)
