"""Which axis of which parameter is spread over which axis of a device mesh.

Attention heads, the columns of the MLPs and the words of input and output embeddings are split over `model`, each
tower's by its own numbers; what does not divide stays whole, and so do norms and positions. A block then needs one sum
over devices behind its attention (and its cross-attention) and one behind its MLP, and the embedding one more, which
XLA's partitioner puts there.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

# Axes of a mesh. Questions are spread over DATA; where there are fewer of them than devices, the configurations of each
# question are, over CONFIGURATIONS.
DATA: Final = "data"
CONFIGURATIONS: Final = "configurations"
MODEL: Final = "model"

# Logical axes of parameters.
HEADS: Final = "attention heads"
KV_HEADS: Final = "key-value heads"
COLUMNS: Final = "MLP columns"
WORDS: Final = "words"
WHOLE: Final = None

# Logical axes to the mesh's.
MESH_AXES: Final = {HEADS: MODEL, KV_HEADS: MODEL, COLUMNS: MODEL, WORDS: MODEL}

# The ends of parameters' paths; the layer axis of stacked blocks precedes.
_TABLE: Final[Mapping[tuple[str, ...], tuple[str | None, ...]]] = {
    ("q_proj", "kernel"): (WHOLE, HEADS),
    ("q_proj", "bias"): (HEADS,),
    ("k_proj", "kernel"): (WHOLE, KV_HEADS),
    ("k_proj", "bias"): (KV_HEADS,),
    ("v_proj", "kernel"): (WHOLE, KV_HEADS),
    ("v_proj", "bias"): (KV_HEADS,),
    ("o_proj", "kernel"): (HEADS, WHOLE),
    ("out_proj", "kernel"): (HEADS, WHOLE),
    ("attn", "c_proj", "kernel"): (HEADS, WHOLE),
    ("crossattention", "c_proj", "kernel"): (HEADS, WHOLE),
    ("gate_proj", "kernel"): (WHOLE, COLUMNS),
    ("up_proj", "kernel"): (WHOLE, COLUMNS),
    ("down_proj", "kernel"): (COLUMNS, WHOLE),
    ("fc1", "kernel"): (WHOLE, COLUMNS),
    ("fc1", "bias"): (COLUMNS,),
    ("fc2", "kernel"): (COLUMNS, WHOLE),
    ("c_fc", "kernel"): (WHOLE, COLUMNS),
    ("c_fc", "bias"): (COLUMNS,),
    ("mlp", "c_proj", "kernel"): (COLUMNS, WHOLE),
    ("linear_1", "kernel"): (WHOLE, COLUMNS),
    ("linear_1", "bias"): (COLUMNS,),
    ("linear_2", "kernel"): (COLUMNS, WHOLE),
    ("embed_tokens", "embedding"): (WORDS, WHOLE),
    ("lm_head", "kernel"): (WHOLE, WORDS),
}

_VISION: Final = "vision_tower"
_PROJECTOR: Final = "multi_modal_projector"

Path = tuple[str, ...]
Leaf = jax.ShapeDtypeStruct | jax.Array


def logical_axes(path: Path, dimensions: int) -> tuple[str | None, ...]:
    """The logical axes of a parameter; none for one that is kept whole.

    Args:
        dimensions: how many the parameter has.
    """
    for end, axes in _TABLE.items():
        if path[-len(end) :] == end:
            return (WHOLE,) * (dimensions - len(axes)) + axes
    return (WHOLE,) * dimensions


def axis_counts(config: Any, path: Path, size: int) -> dict[str, int]:
    """In how many units a parameter's logical axes come: heads are never cut.

    Args:
        config: of the whole model.
        size: of the axis in question, for columns and words.
    """
    if path[0] == _VISION:
        return {HEADS: config.vision.heads, KV_HEADS: config.vision.heads, COLUMNS: size, WORDS: size}
    return {HEADS: config.text.heads, KV_HEADS: config.text.kv_heads, COLUMNS: size, WORDS: size}


def parameter_shardings(config: Any, leaves: Mapping[Path, Leaf], mesh: Mesh) -> dict[Path, NamedSharding]:
    """Where every parameter goes.

    Args:
        config: the model's.
        leaves: shapes of the parameters, by their paths.
    """
    shardings = {}
    for path, leaf in leaves.items():
        spec = []
        for axis, size in zip(logical_axes(path, len(leaf.shape)), leaf.shape, strict=True):
            split = axis is not None and mesh.shape.get(MODEL, 1) > 1 and _divides(config, path, axis, size, mesh)
            spec.append(MESH_AXES[axis] if axis is not None and split else None)
        shardings[path] = NamedSharding(mesh, PartitionSpec(*spec))
    return shardings


def kept_whole(config: Any, leaves: Mapping[Path, Leaf], mesh: Mesh) -> list[str]:
    """The logical axes that do not divide by the mesh, for people: `12 attention heads of the vision tower`."""
    told: dict[str, None] = {}
    for path, leaf in leaves.items():
        for axis, size in zip(logical_axes(path, len(leaf.shape)), leaf.shape, strict=True):
            if axis is not None and not _divides(config, path, axis, size, mesh):
                tower = {_VISION: "the vision tower", _PROJECTOR: "the projector"}.get(path[0], "the decoder")
                told[f"{axis_counts(config, path, size)[axis]} {axis} of {tower}"] = None
    return list(told)


def split_bytes(config: Any, leaves: Mapping[Path, Leaf], devices: int) -> int:
    """Bytes of the parameters on one of so many devices that the model is spread over."""
    mesh = AbstractMesh((devices,), (MODEL,))
    total = 0
    for path, leaf in leaves.items():
        axes = zip(logical_axes(path, len(leaf.shape)), leaf.shape, strict=True)
        split = any(axis is not None and _divides(config, path, axis, size, mesh) for axis, size in axes)
        total += math.prod(leaf.shape) * leaf.dtype.itemsize // (devices if split else 1)
    return total


def _divides(config: Any, path: Path, axis: str, size: int, mesh: Mesh | AbstractMesh) -> bool:
    devices = mesh.shape.get(MESH_AXES[axis], 1)
    counts = axis_counts(config, path, size)
    # Keys and values are read by the queries' heads: where these are whole, so are they.
    return counts[axis] % devices == 0 and (axis != KV_HEADS or counts[HEADS] % devices == 0)


def mesh_size(axis: str) -> int:
    """Devices along an axis of the mesh that is in force (`jax.set_mesh`); 1 where there is none."""
    return int(jax.sharding.get_abstract_mesh().shape.get(axis, 1))
