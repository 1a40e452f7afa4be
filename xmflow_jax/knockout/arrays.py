"""Knockouts as pytrees of small boolean arrays, and the dense masks that a layer builds from them.

A study's `Switches` have one leading axis over configurations and one over layers; a prompt's `Positions` stand beside
them once. The dense [target, source] mask exists only inside a layer:

    blocked[t, s] = any over actions a of  switch[a] & target[a, t] & source[a, s]
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from xmflow_jax.data.roles import IMAGE
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.configuration import (
    ATTENTION_OUTPUT,
    CROSS_OUTPUT,
    MLP_OUTPUT,
    Action,
    Edges,
    Knockout,
    RoleSet,
)
from xmflow_jax.models.attention import LayerEdit

# Built with numpy on the host, traced as jax arrays inside the engines.
Masks = Any


class Actions(NamedTuple):
    """A study's distinct actions by kind, each kind in the order of its array axis."""

    mask: tuple[Action, ...]
    zero: tuple[Action, ...]
    cross_mask: tuple[Action, ...]
    cross_zero: tuple[Action, ...]
    attention_output: tuple[Action, ...]
    cross_output: tuple[Action, ...]
    mlp_output: tuple[Action, ...]


# Kinds whose actions are edges; their switches have a head axis.
EDGE_KINDS = ("mask", "zero", "cross_mask", "cross_zero")


class Switches(NamedTuple):
    """Which action is on: [configuration, layer, action, head] for edges (head axis of 1: all heads alike) and
    [configuration, layer, action] for outputs. A kind that the study does not use has no actions."""

    mask: Bool[Masks, "*config layer mask_action head"]
    zero: Bool[Masks, "*config layer zero_action head"]
    cross_mask: Bool[Masks, "*config layer cross_mask_action head"]
    cross_zero: Bool[Masks, "*config layer cross_zero_action head"]
    attention_output: Bool[Masks, "*config layer attention_action"]
    cross_output: Bool[Masks, "*config layer cross_action"]
    mlp_output: Bool[Masks, "*config layer mlp_action"]


class Positions(NamedTuple):
    """Which positions an action is about, for each prompt of a batch: [batch, action, position].

    The sources of cross-attention edges are the encoder's positions: [batch, action, visual].
    """

    mask_source: Bool[Masks, "*batch mask_action position"]
    mask_target: Bool[Masks, "*batch mask_action position"]
    zero_source: Bool[Masks, "*batch zero_action position"]
    zero_target: Bool[Masks, "*batch zero_action position"]
    cross_mask_source: Bool[Masks, "*batch cross_mask_action visual"]
    cross_mask_target: Bool[Masks, "*batch cross_mask_action position"]
    cross_zero_source: Bool[Masks, "*batch cross_zero_action visual"]
    cross_zero_target: Bool[Masks, "*batch cross_zero_action position"]
    attention_output: Bool[Masks, "*batch attention_action position"]
    cross_output: Bool[Masks, "*batch cross_action position"]
    mlp_output: Bool[Masks, "*batch mlp_action position"]


def kind_of(action: Action) -> str:
    """The field of `Actions` and `Switches` that holds this action."""
    if isinstance(action, Edges):
        return f"cross_{action.mode}" if action.cross else action.mode
    sites = {ATTENTION_OUTPUT: "attention_output", CROSS_OUTPUT: "cross_output", MLP_OUTPUT: "mlp_output"}
    return sites[action.site]


def collect_actions(knockouts: Sequence[Knockout]) -> Actions:
    """The distinct actions of these configurations, in order of first use."""
    kinds: dict[str, dict[Action, None]] = {field: {} for field in Actions._fields}
    for knockout in knockouts:
        for action, _, _ in knockout.switched:
            kinds[kind_of(action)][action] = None
    return Actions(**{kind: tuple(actions) for kind, actions in kinds.items()})


def check_range(name: str, values: Sequence[int], count: int) -> None:
    """Every value is one of 0 to count - 1.

    Raises:
        OptionError: one is not; the message calls it `name`.
    """
    for value in values:
        if not 0 <= value < count:
            raise OptionError(f"{name} {value} is not one of the model's 0 to {count - 1}")


def build_switches(knockouts: Sequence[Knockout], actions: Actions, layers: int, heads: int) -> Switches:
    """Numpy switches of all configurations.

    Raises:
        OptionError: a layer or head is not one of the model's.
    """
    by_head = any(part[2] is not None for knockout in knockouts for part in knockout.switched)
    head_axis = heads if by_head else 1
    arrays = {
        kind: np.zeros(
            (len(knockouts), layers, len(getattr(actions, kind))) + ((head_axis,) if kind in EDGE_KINDS else ()),
            bool,
        )
        for kind in Actions._fields
    }
    for row, knockout in enumerate(knockouts):
        for action, blocked_layers, blocked_heads in knockout.switched:
            check_range("layer", blocked_layers, layers)
            check_range("head", blocked_heads or (), heads)
            kind = kind_of(action)
            column = getattr(actions, kind).index(action)
            on = arrays[kind][row, list(blocked_layers), column]
            if arrays[kind].ndim == 4:
                chosen = np.zeros(head_axis, bool)
                chosen[slice(None) if blocked_heads is None else list(blocked_heads)] = True
                on = on | chosen
            else:
                on = np.ones_like(on)
            arrays[kind][row, list(blocked_layers), column] = on
    return Switches(**arrays)


def build_positions(
    prompts: Sequence[Mapping[str, Bool[np.ndarray, " _"]]], actions: Actions, length: int, generated: int = 0
) -> Positions:
    """Numpy positions of a batch of prompts, padded on the right to `length`; padding belongs to no action.

    Args:
        prompts: each prompt's roles, boolean over its own positions; image roles over the encoder's, where the model
            reads the image by cross-attention.
        generated: so many positions behind each prompt are those of its answer (`RoleSet.generated`).
    """

    def stack(kind: str, end: str) -> Bool[np.ndarray, "batch action _"]:
        chosen = getattr(actions, kind)
        visual = kind.startswith("cross") and end == "source"
        count = max((len(roles[IMAGE]) for roles in prompts), default=0) if visual and chosen else length
        out = np.zeros((len(prompts), len(chosen), count), bool)
        for row, roles in enumerate(prompts):
            for column, action in enumerate(chosen):
                chosen_set: RoleSet = getattr(action, end)
                positions = chosen_set.positions(roles)
                out[row, column, : len(positions)] = positions
                if chosen_set.generated and not visual:
                    out[row, column, len(positions) : len(positions) + generated] = True
        return out

    return Positions(
        mask_source=stack("mask", "source"),
        mask_target=stack("mask", "target"),
        zero_source=stack("zero", "source"),
        zero_target=stack("zero", "target"),
        cross_mask_source=stack("cross_mask", "source"),
        cross_mask_target=stack("cross_mask", "target"),
        cross_zero_source=stack("cross_zero", "source"),
        cross_zero_target=stack("cross_zero", "target"),
        attention_output=stack("attention_output", "target"),
        cross_output=stack("cross_output", "target"),
        mlp_output=stack("mlp_output", "target"),
    )


def refuse_cross_attention(switches: Switches) -> None:
    """Nothing about cross-attention may be asked of a model that has none: it would silently do nothing.

    Raises:
        OptionError: an action is about cross-attention.
    """
    if any(getattr(switches, kind).size for kind in ("cross_mask", "cross_zero", "cross_output")):
        raise OptionError("the model reads the image in its prompt; it has no cross-attention to knock out")


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


def dropped_positions(
    switch: Bool[Masks, "*config action"], target: Bool[Masks, "*batch action target"]
) -> Bool[Array, "... target"]:
    """Positions at which a switched output is zero."""
    return jnp.any(switch[..., :, None] & target, axis=-2)


def layer_edit(switches: Switches, positions: Positions) -> LayerEdit:
    """One layer's masks of one configuration (no configuration axis, no layer axis) for a batch of prompts."""

    def edges(kind: str) -> Array | None:
        switch = getattr(switches, kind)
        ends = getattr(positions, f"{kind}_target"), getattr(positions, f"{kind}_source")
        return edge_mask(switch, *ends) if switch.shape[0] else None

    def dropped(kind: str) -> Array | None:
        switch = getattr(switches, kind)
        return dropped_positions(switch, getattr(positions, kind)) if switch.shape[0] else None

    return LayerEdit(
        blocked=edges("mask"),
        zeroed=edges("zero"),
        attention_dropped=dropped("attention_output"),
        mlp_dropped=dropped("mlp_output"),
        cross_blocked=edges("cross_mask"),
        cross_zeroed=edges("cross_zero"),
        cross_dropped=dropped("cross_output"),
    )
