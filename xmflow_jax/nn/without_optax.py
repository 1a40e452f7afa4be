"""Flax NNX where optax is not installed: its modules of training name two of optax's types, and nothing here trains.

Containers on clusters leave out what a study does not need, and Flax cannot be imported without optax otherwise.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

NAME: Final = "optax"


class _StandIn(ModuleType):
    """A module in which every name is a type of its own that nobody uses."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": NAME})


def import_flax_without_optax() -> None:
    """Import `flax.nnx` where optax is missing, and do nothing where it is there.

    To be called before anything else imports `flax.nnx`. What stands in for optax is gone afterwards, so that other
    programs find it missing.
    """
    if NAME in sys.modules or find_spec(NAME) is not None:
        return
    sys.modules[NAME] = _StandIn(NAME)
    try:
        import_module("flax.nnx")
    finally:
        del sys.modules[NAME]
