"""A model as one value that JAX can trace: its parameters, and beside them, compiled in, what they belong to."""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
from flax import nnx

from xmflow_jax.nn.interfaces import Model

Tree = Any


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["graphdef"])
@dataclass(frozen=True)
class Network:
    """A module split as `nnx.split` does.

    Attributes:
        graphdef: the module without its parameters; a program is compiled for one of them.
        params: arrays, or their shapes.
    """

    graphdef: Any
    params: Tree

    def module(self) -> Model:
        """The module itself, for a pass to call."""
        return cast(Model, nnx.merge(self.graphdef, self.params))
