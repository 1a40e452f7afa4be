"""Networks of random weights, drawn by NumPy: XLA takes seconds to compile a truncated normal for every new shape."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import nnx

from xmflow_jax.nn.network import Network


def random_network(make: Callable[[], nnx.Module], seed: int = 0) -> Network:
    """Matrices with columns of about unit length, norms and biases as they begin.

    Args:
        make: the module; its own initial values are not computed.
    """
    graphdef, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(seed)
    filled = [
        (path, leaf.replace(jnp.asarray(_drawn(path[-1], leaf.get_value().shape, rng), leaf.get_value().dtype)))
        for path, leaf in nnx.to_flat_state(state)
    ]
    return Network(graphdef, nnx.from_flat_state(filled))


def empty_arrays(make: Callable[[], nnx.Module]) -> tuple[nnx.GraphDef, nnx.State, dict[tuple[str, ...], np.ndarray]]:
    """(a module's definition, the shapes of its state, zeros of these shapes by their paths)."""
    graphdef, state = nnx.split(nnx.eval_shape(make))
    return graphdef, state, {path: np.zeros(leaf.shape, leaf.dtype) for path, leaf in nnx.to_flat_state(state)}


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "bias":
        return np.zeros(shape)
    if name == "scale":
        return np.ones(shape)
    inputs = {"kernel": shape[-2:-1], "patch_embedding": shape[:-1]}.get(name, shape[-1:])
    return rng.standard_normal(shape).clip(-2, 2) / np.sqrt(np.prod(inputs))
