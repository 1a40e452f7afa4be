"""Floating-point operations of matrix products, counted in what JAX traces: a multiplication and an addition are two.

Everything else (norms, activations, softmax, masks) is left out, as operation counts of transformers usually are.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import jax
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_operations(function: Callable[..., Any], *arguments: Any) -> int:
    """The products in a function of arrays, or of their shapes; loops are counted as often as they run.

    Raises:
        ValueError: a loop's length is known only when it runs.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            given, result = (cast(ShapedArray, one.aval).shape for one in (equation.invars[0], equation.outvars[0]))
            total += 2 * math.prod(result) * math.prod(given[axis] for axis in contracted)
        elif name == "scan":
            total += parameters["length"] * _count(parameters["jaxpr"].jaxpr)
        elif name == "while":
            raise ValueError("how often a while loop runs is not known before it does")
        elif name == "cond":
            # Branches for different platforms compute the same.
            total += max(_count(branch.jaxpr) for branch in parameters["branches"])
        else:
            total += sum(_count(inner) for inner in _inner(parameters))
    return total


def _inner(parameters: dict[str, Any]) -> list[Jaxpr]:
    """The functions that an equation calls."""
    found = []
    for value in parameters.values():
        if isinstance(value, ClosedJaxpr):
            found.append(value.jaxpr)
        elif isinstance(value, Jaxpr):
            found.append(value)
    return found
