"""Parameters spread over devices: of each published tensor only what a device holds is read, straight from the file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from xmflow_jax.machine.partitioning import Leaf
from xmflow_jax.weights.rules import Rule
from xmflow_jax.weights.safetensors_files import StoredTensor, read_slice

Index = tuple[slice, ...]

# Bytes; XLA's CPU device takes over buffers that are so aligned.
ALIGNMENT = 64


def place_parameter(rule: Rule, tensors: Mapping[str, StoredTensor], leaf: Leaf, sharding: NamedSharding) -> jax.Array:
    """One parameter on the devices of this process, and its place on those of others.

    Args:
        tensors: by canonical name.
        leaf: the whole parameter's shape and type.
    """
    parts: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def part(index: Index | None) -> np.ndarray:
        """A device's part; devices that hold the same one read it once."""
        assert index is not None, "a device of this process"
        bounds = tuple(_bounds(one, size) for one, size in zip(index, leaf.shape, strict=True))
        if bounds not in parts:
            parts[bounds] = _read(rule, tensors, leaf, bounds)
        return parts[bounds]

    return jax.block_until_ready(jax.make_array_from_callback(leaf.shape, sharding, part))


def _bounds(one: slice, size: int) -> tuple[int, int]:
    start, stop, _ = one.indices(size)
    return start, stop


def _read(
    rule: Rule, tensors: Mapping[str, StoredTensor], leaf: Leaf, bounds: tuple[tuple[int, int], ...]
) -> np.ndarray:
    out = aligned_empty([stop - start for start, stop in bounds], leaf.dtype)
    # A stacked parameter is spread over other axes than the layers.
    own = bounds[1:] if rule.layers else bounds
    shape = leaf.shape[1:] if rule.layers else leaf.shape
    for layer, name in enumerate(rule.names()):
        values = read_slice(tensors[name], rule.published_index(own, shape))
        values = values.reshape(values.shape[rule.leading :]).transpose(rule.axes)
        if rule.layers:
            out[layer] = values
        else:
            out[...] = values
    return out


def aligned_empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An uninitialised array that starts at a multiple of 64 bytes, which a CPU device takes over without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
