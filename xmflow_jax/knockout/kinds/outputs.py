"""What a sublayer adds at a role's positions, set to zero: of a site that attends, or of the MLP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax.numpy as jnp
from jaxtyping import Array, Bool

from xmflow_jax.knockout.kinds.kind import Bank, Changed, Kind, PromptRoles, Sight, View, pad_last, padded_masks
from xmflow_jax.knockout.modes import ZERO
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.nn.anatomy import Site

NAME: Final = "output"
Masks = Any


@dataclass(frozen=True)
class Output:
    """The output of one sublayer, behind its projection, at the targets."""

    site: Site
    target: RoleSet


def dropped_positions(
    switch: Bool[Masks, "*config action"], target: Bool[Masks, "*batch action target"]
) -> Bool[Array, "... target"]:
    """Positions at which a switched output is zero."""
    return jnp.any(switch[..., :, None] & target, axis=-2)


def _build(bank: Bank, actions: Sequence[Output], prompts: PromptRoles) -> Bool[Masks, "batch action position"]:
    stack = bank.site.stack
    targets = [[prompts.mask(action.target, stack, own, False) for action in actions] for own in prompts.roles]
    return padded_masks(targets, len(actions), prompts.length[stack])


def _changed(bank: Bank, action: Output, target: Bool[Masks, "batch position"], sight: Sight) -> Changed:
    return Changed(target, None)


def _dropped(switch: Array, target: Bool[Masks, "batch action position"], view: View) -> Bool[Array, "..."]:
    return dropped_positions(switch, view.of_targets(target))


KIND: Final = Kind(
    NAME,
    Output,
    by_head=False,
    banks=lambda action: (Bank(action.site, NAME, ZERO),),
    ends=lambda action: ((action.site.stack, action.target),),
    build=_build,
    pad=lambda bank, target, more: pad_last(target, more),
    rows=lambda target: target.shape[-1],
    changed=_changed,
    dropped=_dropped,
)
