"""Passes whose questions are spread over the devices of a mesh.

A pass is written for a batch and knows nothing of devices. Inside a mesh that has several along DATA each of them runs
it on its own part of the batch: no device waits for another, and the program holds no exchange between them. What is
spread over MODEL inside the pass is the partitioner's, from the parameters' own places.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from xmflow_jax.machine.compiler import Program
from xmflow_jax.machine.memory import check_fits, is_planned
from xmflow_jax.machine.partitioning import CONFIGURATIONS, DATA, mesh_size

Tree = Any

# Where an array has its batch axis; a tree's leaves may share one specification.
FIRST = PartitionSpec(DATA)
SECOND = PartitionSpec(None, DATA)
THIRD = PartitionSpec(None, None, DATA)
SHARED = PartitionSpec()


@dataclass(frozen=True)
class Pass:
    """A compiled pass; where memory is planned (`memory.memory_planned`), it is run only if it fits.

    Attributes:
        program: what is compiled.
    """

    program: Program

    def __call__(self, *given: Any, **named: Any) -> Any:
        if is_planned():
            # What is compiled to be looked at is what the call runs: JAX keeps it.
            check_fits(self.lower(*given, **named).compile())
        return self.program(*given, **named)

    def lower(self, *given: Any, **named: Any) -> Any:
        """As that of `jax.jit`."""
        return self.program.jitted.lower(*given, **named)


def over_questions(
    function: Callable[..., Any], arguments: Mapping[str, Tree], results: Tree, static: Sequence[str] = ()
) -> Pass:
    """The pass, compiled; in a mesh with several devices along DATA each of them runs it on its questions.

    Args:
        arguments: specifications of the array arguments by name, in which a tree's leaves may share one.
        results: of what it returns.
        static: names of the arguments that are compiled in.
    """
    signature = inspect.signature(function)

    def run(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        if mesh_size(DATA) == 1:
            return function(*bound.args, **bound.kwargs)
        arrays = {name: value for name, value in bound.arguments.items() if name in arguments}
        others = {name: value for name, value in bound.arguments.items() if name not in arguments}
        # Only what is asked of the pass differs from device to device, so its outputs need no check of being equal.
        spread = jax.shard_map(
            lambda own: function(**others, **own),
            in_specs=({name: arguments[name] for name in arrays},),
            out_specs=results,
            axis_names={DATA},
            check_vma=False,
        )
        return spread(arrays)

    run.__signature__ = signature  # type: ignore[attr-defined]  # by which jit finds the static arguments
    return Pass(Program(run, tuple(static)))


def spread_lanes(x: jax.Array) -> jax.Array:
    """Hidden states [run, batch, lane, ...] with the lanes of each run, which divide by them, spread over the devices
    along CONFIGURATIONS."""
    if mesh_size(CONFIGURATIONS) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(None, None, CONFIGURATIONS))


def to_host(tree: Tree) -> Tree:
    """The arrays as numpy. Where other processes hold parts of them, these are fetched first; all of them must ask."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if not all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        whole = NamedSharding(jax.sharding.get_mesh(), PartitionSpec())
        tree = jax.jit(lambda own: jax.tree.map(jnp.asarray, own), out_shardings=whole)(tree)
    return jax.tree.map(np.asarray, tree)
