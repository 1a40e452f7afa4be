"""Attention edges from every source to every target, such as a pathway's.

    blocked[t, s] = any over actions a of  switch[a] & target[a, t] & source[a, s]

The dense matrix exists only inside a layer; what visibility does not allow anyway is not taken out of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from xmflow_jax.knockout.kinds.kind import (
    Bank,
    Changed,
    Kind,
    PromptRoles,
    Shown,
    Sight,
    View,
    pad_last,
    padded_masks,
    source_stack,
)
from xmflow_jax.knockout.modes import MASK, MODES
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.nn.anatomy import OWN, SELF, VISUAL, Site

NAME: Final = "edges"
Masks = Any


@dataclass(frozen=True)
class Edges:
    """The edges of one site from every source to every target.

    Attributes:
        mode: what becomes of them (`knockout.modes`).
        site: where they are; its sources are the stack's own positions, the encoder's, or another stack's.
    """

    source: RoleSet
    target: RoleSet
    mode: str = MASK
    site: Site = SELF


class EdgeArrays(NamedTuple):
    """The ends of each action's edges."""

    source: Bool[Masks, "*batch action source"]
    target: Bool[Masks, "*batch action position"]


def edge_mask(
    switch: Bool[Masks, "*config action head"],
    target: Bool[Masks, "*batch action target"],
    source: Bool[Masks, "*batch action source"],
) -> Bool[Array, "..."]:
    """Dense [head, target, source] of the switched edges.

    A product over the few actions, so that it stays one small matmul; counts this small are exact in float32.
    """
    rows = (switch[..., :, :, None] & target[..., :, None, :]).astype(jnp.float32)
    return jnp.einsum("...aht,...as->...hts", rows, source.astype(jnp.float32)) > 0.5


def _banks(action: Edges) -> tuple[Bank, ...]:
    return (Bank(action.site, NAME, action.mode),)


def _ends(action: Edges) -> tuple[tuple[str, RoleSet], ...]:
    return (source_stack(action.site), action.source), (action.site.stack, action.target)


def _build(bank: Bank, actions: Sequence[Edges], prompts: PromptRoles) -> EdgeArrays:
    site, visual = bank.site, bank.site.reads == VISUAL
    sources = [
        [prompts.mask(action.source, source_stack(site), own, visual) for action in actions] for own in prompts.roles
    ]
    targets = [[prompts.mask(action.target, site.stack, own, False) for action in actions] for own in prompts.roles]
    return EdgeArrays(
        padded_masks(sources, len(actions), prompts.sources(site)),
        padded_masks(targets, len(actions), prompts.length[site.stack]),
    )


def _pad(bank: Bank, arrays: EdgeArrays, more: int) -> EdgeArrays:
    source = pad_last(arrays.source, more) if bank.site.reads == OWN else arrays.source
    return EdgeArrays(source, pad_last(arrays.target, more))


def _changed(bank: Bank, action: Edges, arrays: EdgeArrays, sight: Sight) -> Changed:
    source, target = arrays
    if bank.site.reads != OWN:
        # Every target sees all of these sources.
        return Changed(target & source.any(1, keepdims=True), None)
    # In any mode but a removing one a source's key still takes its part of the softmax.
    removed = MODES[bank.mode].removed
    return Changed(target & sight.seeing(source), sight.unseen(source, target) if removed else None)


def _edges(switch: Array, arrays: EdgeArrays, view: View) -> Bool[Array, "..."]:
    return edge_mask(switch, view.of_targets(arrays.target), view.of_sources(arrays.source))


def _probe(bank: Bank, action: Edges, prompt: Any) -> Shown:
    source = action.source.positions(prompt.roles[source_stack(bank.site)])
    return Shown(source, action.target.positions(prompt.roles[bank.site.stack]))


KIND: Final = Kind(
    NAME,
    Edges,
    by_head=True,
    banks=_banks,
    ends=_ends,
    build=_build,
    pad=_pad,
    rows=lambda arrays: arrays.target.shape[-1],
    changed=_changed,
    edges=_edges,
    probe=_probe,
)
