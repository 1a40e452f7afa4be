"""Knockouts as pytrees of small boolean arrays, and the dense masks that a layer builds from them.

A study's `Switches` have one leading axis over configurations and one over layers; a prompt's `Positions` stand beside
them once. The dense [target, source] mask exists only inside a layer:

    blocked[t, s] = any over actions a of  switch[a] & target[a, t] & source[a, s]

Edges of matched controls are no product of targets and sources: of these actions the dense matrix itself stands beside
the switches, once per prompt, whatever the number of layers and configurations.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from xmflow_jax.data.roles import IMAGE
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import (
    ATTENTION_OUTPUT,
    CROSS_OUTPUT,
    MLP_OUTPUT,
    Action,
    DrawnEdges,
    Edges,
    Knockout,
    RoleSet,
)
from xmflow_jax.knockout.controls import draw_edges
from xmflow_jax.nn.attention import LayerEdit

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
    drawn_mask: tuple[Action, ...]
    drawn_zero: tuple[Action, ...]


# Kinds whose actions are edges; their switches have a head axis.
DRAWN_KINDS = ("drawn_mask", "drawn_zero")
EDGE_KINDS = ("mask", "zero", "cross_mask", "cross_zero", *DRAWN_KINDS)


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
    drawn_mask: Bool[Masks, "*config layer drawn_mask_action head"]
    drawn_zero: Bool[Masks, "*config layer drawn_zero_action head"]


class Positions(NamedTuple):
    """Which positions an action is about, for each prompt of a batch: [batch, action, position].

    The sources of cross-attention edges are the encoder's positions: [batch, action, visual]. Drawn edges are
    [batch, action, position, position], and [batch, action, position, visual] where a model has cross-attention.
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
    drawn_mask: Bool[Masks, "*batch drawn_mask_action position position"]
    drawn_mask_cross: Bool[Masks, "*batch drawn_mask_action position visual"]
    drawn_zero: Bool[Masks, "*batch drawn_zero_action position position"]
    drawn_zero_cross: Bool[Masks, "*batch drawn_zero_action position visual"]


def with_room(positions: Positions, more: int) -> Positions:
    """The same with so many positions more behind them, which no action is about; visual positions stay as they are."""
    axes = {
        **dict.fromkeys(("cross_mask_source", "cross_zero_source"), ()),
        **dict.fromkeys(("drawn_mask", "drawn_zero"), (-2, -1)),
        **dict.fromkeys(("drawn_mask_cross", "drawn_zero_cross"), (-2,)),
    }
    padded = {}
    for name, masks in positions._asdict().items():
        widths = [(0, 0)] * masks.ndim
        for axis in axes.get(name, (-1,)):
            widths[axis] = (0, more)
        padded[name] = jnp.pad(masks, widths)
    return Positions(**padded)


def kind_of(action: Action) -> str:
    """The field of `Actions` and `Switches` that holds this action."""
    if isinstance(action, DrawnEdges):
        return f"drawn_{action.like.mode}"
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
    prompts: Sequence[Mapping[str, Bool[np.ndarray, " _"]]],
    actions: Actions,
    length: int,
    generated: int = 0,
    keys: Sequence[int] | None = None,
) -> Positions:
    """Numpy positions of a batch of prompts, padded on the right to `length`; padding belongs to no action.

    Args:
        prompts: each prompt's roles, boolean over its own positions; image roles over the encoder's, where the model
            reads the image by cross-attention.
        generated: so many positions behind each prompt are those of its answer (`RoleSet.generated`).
        keys: each prompt's own number (`controls.question_key`), from which its controls are drawn.

    Raises:
        ValueError: there are drawn edges, and a prompt has no key.
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

    def drawn(kind: str) -> tuple[Bool[np.ndarray, "batch action _ _"], Bool[np.ndarray, "batch action _ _"]]:
        chosen = getattr(actions, kind)
        if chosen and (keys is None or len(keys) != len(prompts)):
            raise ValueError(f"drawn edges need a key for each of {len(prompts)} prompts, not {keys}")
        read = any(action.cross_attention for action in chosen)
        visual = max((len(roles[IMAGE]) for roles in prompts), default=0) if read else 0
        own, cross = (np.zeros((len(prompts), len(chosen), length, sources), bool) for sources in (length, visual))
        for row, column in np.ndindex(own.shape[:2]):
            edges = draw_edges(chosen[column], prompts[row], (keys or ())[row], generated)
            own[(row, column, *map(slice, edges.own.shape))] = edges.own
            cross[(row, column, *map(slice, edges.visual.shape))] = edges.visual
        return own, cross

    (drawn_mask, drawn_mask_cross), (drawn_zero, drawn_zero_cross) = map(drawn, DRAWN_KINDS)
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
        drawn_mask=drawn_mask,
        drawn_mask_cross=drawn_mask_cross,
        drawn_zero=drawn_zero,
        drawn_zero_cross=drawn_zero_cross,
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


def drawn_mask(
    switch: Bool[Masks, "*config action head"], edges: Bool[Masks, "*batch action target source"]
) -> Bool[Array, "..."]:
    """Dense [head, target, source] of the switched drawn edges; a small matmul, as `edge_mask` is."""
    return jnp.einsum("...ah,...ats->...hts", switch.astype(jnp.float32), edges.astype(jnp.float32)) > 0.5


def either(one: Array | None, other: Array | None) -> Array | None:
    """Both masks in one; None stands for no edges."""
    return other if one is None else one if other is None else one | other


def dropped_positions(
    switch: Bool[Masks, "*config action"], target: Bool[Masks, "*batch action target"]
) -> Bool[Array, "... target"]:
    """Positions at which a switched output is zero."""
    return jnp.any(switch[..., :, None] & target, axis=-2)


def layer_edit(switches: Switches, positions: Positions) -> LayerEdit:
    """One layer's masks of one configuration (no configuration axis, no layer axis) for a batch of prompts."""

    def edges(kind: str, drawn_kind: str) -> Array | None:
        switch = getattr(switches, kind)
        ends = getattr(positions, f"{kind}_target"), getattr(positions, f"{kind}_source")
        drawn_switch = getattr(switches, drawn_kind.removesuffix("_cross"))
        drawn = getattr(positions, drawn_kind)
        return either(
            edge_mask(switch, *ends) if switch.shape[0] else None,
            drawn_mask(drawn_switch, drawn) if drawn_switch.shape[0] and drawn.shape[-1] else None,
        )

    def dropped(kind: str) -> Array | None:
        switch = getattr(switches, kind)
        return dropped_positions(switch, getattr(positions, kind)) if switch.shape[0] else None

    return LayerEdit(
        blocked=edges("mask", "drawn_mask"),
        zeroed=edges("zero", "drawn_zero"),
        attention_dropped=dropped("attention_output"),
        mlp_dropped=dropped("mlp_output"),
        cross_blocked=edges("cross_mask", "drawn_mask_cross"),
        cross_zeroed=edges("cross_zero", "drawn_zero_cross"),
        cross_dropped=dropped("cross_output"),
    )
