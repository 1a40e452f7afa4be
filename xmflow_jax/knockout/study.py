"""A study: its configurations, and what is computed once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from xmflow_jax.data.batch import Prompt
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.arrays import Actions, Switches, build_switches, collect_actions
from xmflow_jax.knockout.kinds import kind_of
from xmflow_jax.knockout.kinds.kind import Action
from xmflow_jax.nn.anatomy import MAIN, Anatomy


@dataclass(frozen=True, eq=False)
class Study:
    """Configurations and what is computed once for all of them."""

    knockouts: tuple[Knockout, ...]
    actions: Actions
    switches: Switches
    anatomy: Anatomy

    @property
    def layers(self) -> int:
        """Of all stacks together."""
        return self.anatomy.layers


def build_study(knockouts: Sequence[Knockout], anatomy: Anatomy) -> Study:
    """A study of a model.

    Raises:
        OptionError: a site, a layer or a head is not one of the model's.
    """
    actions = collect_actions(knockouts)
    return Study(tuple(knockouts), actions, build_switches(knockouts, actions, anatomy), anatomy)


def check_positions(prompts: Sequence[Prompt], actions: Actions) -> None:
    """Every role set that an action names has at least one position in every prompt: no silent no-op.

    Raises:
        OptionError: a role is unknown to a prompt or matches no position of it.
    """
    for prompt in prompts:
        stacks = {**prompt.before, MAIN: prompt}
        for action in distinct(actions):
            for stack, chosen in kind_of(action).ends(action):
                roles = stacks[stack].roles
                if chosen.role not in roles:
                    raise OptionError(f"the prompt has no role {chosen.role!r}")
                if not chosen.complement and not roles[chosen.role].any():
                    raise OptionError(f"role {chosen.role!r} matches no position of the prompt")


def distinct(actions: Actions) -> tuple[Action, ...]:
    """A study's actions, each once."""
    return tuple(dict.fromkeys(action for own in actions.values() for action in own))
