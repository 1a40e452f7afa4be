"""Which axis of which parameter is spread over which axis of a device mesh.

Attention heads, the columns of the MLPs and the words of input and output embeddings are split over `model`, each
tower's by its own numbers, which the family tells (`Partitioning`). What does not divide stays whole, and so do norms
and positions. A block then needs one sum over devices behind its attention (and its cross-attention) and one behind its
MLP, and the embedding one more, which XLA's partitioner puts there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

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

Path = tuple[str, ...]
Leaf = jax.ShapeDtypeStruct | jax.Array


@dataclass(frozen=True)
class Tower:
    """A part of a model whose axes are split by its own numbers.

    Attributes:
        name: for people, such as "the decoder".
        heads, kv_heads: in how many units its head axes come: heads are never cut. 0 for a part without attention.
    """

    name: str
    heads: int = 0
    kv_heads: int = 0


@dataclass(frozen=True)
class Partitioning:
    """How a model's parameters may be spread.

    Attributes:
        towers: by the first part of the parameters' paths; every parameter belongs to one.
        axes: the logical axes of parameters whose names the common table does not know, or names otherwise: by the
            ends of their paths.
    """

    towers: Mapping[str, Tower]
    axes: Mapping[Path, tuple[str | None, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def logical_axes(self, path: Path, dimensions: int) -> tuple[str | None, ...]:
        """The logical axes of a parameter; none for one that is kept whole.

        Args:
            dimensions: how many the parameter has.
        """
        for end, axes in (*self.axes.items(), *_TABLE.items()):
            if path[-len(end) :] == end:
                return (WHOLE,) * (dimensions - len(axes)) + axes
        return (WHOLE,) * dimensions

    def units(self, path: Path, axis: str, size: int) -> int:
        """In how many units a parameter's logical axis comes.

        Args:
            size: of the axis, for columns and words.
        """
        tower = self.towers[path[0]]
        return {HEADS: tower.heads, KV_HEADS: tower.kv_heads}.get(axis, size)


def parameter_shardings(
    partitioning: Partitioning, leaves: Mapping[Path, Leaf], mesh: Mesh
) -> dict[Path, NamedSharding]:
    """Where every parameter goes.

    Args:
        leaves: shapes of the parameters, by their paths.
    """
    shardings = {}
    for path, leaf in leaves.items():
        spec = []
        for axis, size in zip(partitioning.logical_axes(path, len(leaf.shape)), leaf.shape, strict=True):
            split = axis is not None and mesh.shape.get(MODEL, 1) > 1 and _divides(partitioning, path, axis, size, mesh)
            spec.append(MESH_AXES[axis] if axis is not None and split else None)
        shardings[path] = NamedSharding(mesh, PartitionSpec(*spec))
    return shardings


def kept_whole(partitioning: Partitioning, leaves: Mapping[Path, Leaf], mesh: Mesh) -> list[str]:
    """The logical axes that do not divide by the mesh, for people: `12 attention heads of the vision tower`."""
    told: dict[str, None] = {}
    for path, leaf in leaves.items():
        for axis, size in zip(partitioning.logical_axes(path, len(leaf.shape)), leaf.shape, strict=True):
            if axis is not None and not _divides(partitioning, path, axis, size, mesh):
                tower = partitioning.towers[path[0]].name
                told[f"{partitioning.units(path, axis, size)} {axis} of {tower}"] = None
    return list(told)


def split_bytes(partitioning: Partitioning, leaves: Mapping[Path, Leaf], devices: int) -> int:
    """Bytes of the parameters on one of so many devices that the model is spread over."""
    mesh = AbstractMesh((devices,), (MODEL,))
    total = 0
    for path, leaf in leaves.items():
        axes = zip(partitioning.logical_axes(path, len(leaf.shape)), leaf.shape, strict=True)
        split = any(axis is not None and _divides(partitioning, path, axis, size, mesh) for axis, size in axes)
        total += math.prod(leaf.shape) * leaf.dtype.itemsize // (devices if split else 1)
    return total


def _divides(partitioning: Partitioning, path: Path, axis: str, size: int, mesh: Mesh | AbstractMesh) -> bool:
    devices = mesh.shape.get(MESH_AXES[axis], 1)
    # Keys and values are read by the queries' heads: where these are whole, so are they.
    needed = (KV_HEADS, HEADS) if axis == KV_HEADS else (axis,)
    return all(partitioning.units(path, one, size) % devices == 0 for one in needed)


def mesh_size(axis: str) -> int:
    """Devices along an axis of the mesh that is in force (`jax.set_mesh`); 1 where there is none."""
    return int(jax.sharding.get_abstract_mesh().shape.get(axis, 1))
