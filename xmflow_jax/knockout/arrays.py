"""Knockouts as pytrees of small boolean arrays, and the dense masks that a layer builds from them.

A study's switches have one leading axis over configurations and one over layers (of all stacks, one after the other);
a batch's positions stand beside them once. Both are dictionaries with one entry for each bank: actions of one kind, at
one site, with one mode. The dense [target, source] mask exists only inside a layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool

from xmflow_jax.data.batch import Prompt, RoleMasks, padded_length
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.kinds import KINDS, kind_of
from xmflow_jax.knockout.kinds.kind import Action, Bank, PromptRoles, View
from xmflow_jax.knockout.modes import MODES
from xmflow_jax.nn.anatomy import MAIN, Anatomy, Site
from xmflow_jax.nn.treatment import Treatment

# Built with numpy on the host, traced as jax arrays inside the engines.
Masks = Any

# A study's distinct actions, those of a bank in the order of its arrays' action axis.
Actions = Mapping[Bank, tuple[Action, ...]]
# Which action is on: [configuration, layer, action, head] (head axis of 1: all heads alike), or [configuration, layer,
# action] for kinds without heads. Inside a pass leading axes are taken off.
Switches = dict[Bank, Bool[Masks, "..."]]
# Which positions the actions of a bank are about, as its kind builds them: leaves are [batch, action, ...].
Positions = dict[Bank, Any]


def collect_actions(knockouts: Sequence[Knockout]) -> Actions:
    """The distinct actions of these configurations, in order of first use."""
    banks: dict[Bank, dict[Action, None]] = {}
    for knockout in knockouts:
        for action, _, _ in knockout.switched:
            for bank in kind_of(action).banks(action):
                banks.setdefault(bank, {})[action] = None
    return {bank: tuple(actions) for bank, actions in sorted(banks.items())}


def check_range(name: str, values: Sequence[int], count: int) -> None:
    """Every value is one of 0 to count - 1.

    Raises:
        OptionError: one is not; the message calls it `name`.
    """
    for value in values:
        if not 0 <= value < count:
            raise OptionError(f"{name} {value} is not one of the model's 0 to {count - 1}")


def build_switches(knockouts: Sequence[Knockout], actions: Actions, anatomy: Anatomy) -> Switches:
    """Numpy switches of all configurations.

    Raises:
        OptionError: a site, a layer or a head is not one of the model's.
    """
    by_head = any(part[2] is not None for knockout in knockouts for part in knockout.switched)
    stacks = {stack.name: stack for stack in anatomy.stacks}
    switches: Switches = {}
    for bank, own in actions.items():
        check_site(bank.site, anatomy)
        head_axis = [stacks[bank.site.stack].heads if by_head else 1] if KINDS[bank.kind].by_head else []
        switches[bank] = np.zeros((len(knockouts), anatomy.layers, len(own), *head_axis), bool)
    for row, knockout in enumerate(knockouts):
        for action, layers, heads in knockout.switched:
            for bank in kind_of(action).banks(action):
                stack, array = stacks[bank.site.stack], switches[bank]
                check_range("layer", layers, stack.layers)
                check_range("head", heads or (), stack.heads)
                place = np.array(layers, int) + anatomy.first_layer(stack.name)
                on = np.zeros(array.shape[3:], bool)
                on[... if heads is None or not on.ndim else list(heads)] = True
                array[row, place, actions[bank].index(action)] |= on
    return switches


def check_site(site: Site, anatomy: Anatomy) -> None:
    """Refuse a site that a model does not have: a knockout there would silently do nothing.

    Raises:
        OptionError: no layer of the model has it.
    """
    known = tuple(one for stack in anatomy.stacks for one in anatomy.sites(stack))
    if site not in known:
        raise OptionError(f"the model has no site {site}; its sites are: {', '.join(map(str, known))}")


def build_positions(
    prompts: Sequence[Prompt],
    actions: Actions,
    length: int,
    generated: int = 0,
    keys: Sequence[int] | None = None,
) -> Positions:
    """Numpy positions of a batch of prompts, padded on the right; padding belongs to no action.

    Args:
        length: that the main stack's positions are padded to.
        generated: so many positions behind each prompt are those of its answer (`RoleSet.generated`).
        keys: each prompt's own number (`controls.question_key`), from which its controls are drawn.

    Raises:
        ValueError: there are drawn edges, and a prompt has no key.
    """
    names = list(prompts[0].before) if prompts else []
    lengths = {name: padded_length(max(len(prompt.before[name].token_ids) for prompt in prompts)) for name in names} | {
        MAIN: length
    }
    given = PromptRoles(
        [stack_roles(prompt) for prompt in prompts],
        lengths,
        MAIN,
        generated,
        keys,
        [{name: one.place.blocks for name, one in {**own.before, MAIN: own}.items()} for own in prompts],
    )
    return {bank: KINDS[bank.kind].build(bank, own, given) for bank, own in actions.items()}


def stack_roles(prompt: Prompt) -> dict[str, RoleMasks]:
    """A prompt's roles, of every stack by its name."""
    return {**{name: one.roles for name, one in prompt.before.items()}, MAIN: prompt.roles}


def with_room(positions: Positions, more: int) -> Positions:
    """Positions that have room for `more` positions of the main stack behind them, which no action is about."""
    return {
        bank: KINDS[bank.kind].pad(bank, own, more) if bank.site.stack == MAIN else own
        for bank, own in positions.items()
    }


def site_edges(site: Site, switches: Switches, positions: Positions, view: View) -> dict[Treatment, Array]:
    """What one layer of one configuration (or of a row of them) does to a site's edges: dense masks by treatment.

    Args:
        switches: without layer axis; a configuration axis only where the view has one.
        view: the rows and sources that are wanted.
    """
    found: dict[Treatment, Array] = {}
    for bank, switch in switches.items():
        kind = KINDS[bank.kind]
        if bank.site == site and kind.edges is not None:
            own, treatment = kind.edges(switch, positions[bank], view), MODES[bank.mode]
            found[treatment] = found[treatment] | own if treatment in found else own
    return found


def site_dropped(site: Site, switches: Switches, positions: Positions, view: View) -> Array | None:
    """The rows at which one layer of one configuration drops a sublayer's output; None where nothing is dropped.

    Args:
        switches, view: see `site_edges`.
    """
    found: Array | None = None
    for bank, switch in switches.items():
        kind = KINDS[bank.kind]
        if bank.site == site and kind.dropped is not None:
            own = kind.dropped(switch, positions[bank], view)
            found = own if found is None else found | own
    return found
