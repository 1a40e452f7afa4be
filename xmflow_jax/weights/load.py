"""Published or converted weights -> the parameters of a Flax NNX model.

A parameter is assembled from its tensors and moved to the device before the next one is begun, so the host never holds
more than one parameter beside the model.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from xmflow_jax.errors import CheckpointError, OptionError
from xmflow_jax.machine.partitioning import Leaf, parameter_shardings
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.nn.network import Network
from xmflow_jax.weights import orbax
from xmflow_jax.weights.digest import cast_digest, stored_digest
from xmflow_jax.weights.key_matching import canonical_names
from xmflow_jax.weights.published import ModelConfig, PublishedFamily
from xmflow_jax.weights.rules import LINEAR, KeyTable
from xmflow_jax.weights.safetensors_files import FLOATING, StoredTensor, list_tensors, read_tensor
from xmflow_jax.weights.shards import aligned_empty, place_parameter

DTYPES = ("float32", "bfloat16")

# Source rows per copy when a matrix is transposed: both sides of the copy stay in the processor's cache.
TRANSPOSE_ROWS = 256


@dataclass(frozen=True)
class LoadedModel:
    """A model, split as `nnx.split` does: `nnx.merge(graphdef, state)` is the module.

    Attributes:
        family: whose model it is.
        config: the family's own; generic code asks `anatomy`.
        dtype: of every parameter, "float32" or "bfloat16".
        digest: identifies the parameters' values (`weights.digest`).
    """

    family: PublishedFamily
    config: ModelConfig
    graphdef: Any
    state: Any
    dtype: str
    digest: str

    @property
    def net(self) -> Network:
        """What passes run."""
        return Network(self.graphdef, self.state)

    @property
    def anatomy(self) -> Anatomy:
        """The model's stacks as data, and its limits."""
        return self.family.anatomy(self.config)


@dataclass(frozen=True)
class ModelIdentity:
    """What a checkpoint is, without its values.

    Attributes:
        family: whose model it is.
        config: the family's own; generic code asks `anatomy`.
        dtype: that every parameter would have, "float32" or "bfloat16".
        digest: identifies the parameters' values (`weights.digest`).
    """

    family: PublishedFamily
    config: ModelConfig
    dtype: str
    digest: str

    @property
    def net(self) -> Network:
        """The model with shapes in place of its parameters."""
        return Network(*abstract_model(self.family, self.config, self.dtype))

    @property
    def anatomy(self) -> Anatomy:
        """The model's stacks as data, and its limits."""
        return self.family.anatomy(self.config)


@dataclass(frozen=True)
class _Found:
    """A checkpoint's files, examined and not yet read.

    Attributes:
        marker: of a converted checkpoint; None for a published one.
        tensors: of a published checkpoint by their canonical names.
    """

    dtype: str
    digest: str
    marker: orbax.Marker | None
    tensors: Mapping[str, StoredTensor]


def load_weights(
    directory: Path, family: PublishedFamily, config: ModelConfig, dtype: str | None = None, mesh: Mesh | None = None
) -> LoadedModel:
    """A checkpoint of a known family on JAX's default device, or spread over a mesh.

    Args:
        directory: in Hugging Face format, or one that `xmflow_jax.convert` wrote.
        family: that its config.json names.
        config: that the family reads from it.
        dtype: "float32" or "bfloat16", to which all tensors are cast. None: bfloat16 if most of the stored numbers
            are, else float32, which holds float16 exactly.
        mesh: each process then reads no more than its devices hold (`machine.partitioning`).

    Raises:
        OptionError: another dtype.
        CheckpointError: files, keys or shapes are missing or not fully understood.
    """
    found = _examine(directory, family, config, dtype)
    graphdef, abstract = abstract_model(family, config, found.dtype)
    leaves = shapes(abstract)
    shardings = {} if mesh is None else parameter_shardings(family.partitioning(config), leaves, mesh)
    if found.marker is not None:
        arrays = orbax.restore(directory, found.marker, leaves, shardings)
    else:
        arrays = dict(_assemble(family.keys(config), found.tensors, leaves, shardings, str(directory)))
    return LoadedModel(family, config, graphdef, fill_state(abstract, arrays), found.dtype, found.digest)


def identify_weights(
    directory: Path, family: PublishedFamily, config: ModelConfig, dtype: str | None = None
) -> ModelIdentity:
    """What `load_weights` would load: its checks, but for those that need all values, in the time of reading headers.

    Args:
        directory: in Hugging Face format, or one that `xmflow_jax.convert` wrote.
        family: that its config.json names.
        config: that the family reads from it.
        dtype: to which the tensors would be cast; None: the one that most of the stored numbers ask for.

    Raises:
        OptionError: another dtype.
        CheckpointError: files, keys or shapes are missing or not fully understood.
    """
    found = _examine(directory, family, config, dtype)
    return ModelIdentity(family, config, found.dtype, found.digest)


def check_dtype(dtype: str | None) -> None:
    """Refuse a type that parameters cannot have.

    Raises:
        OptionError: it is neither None nor one of `DTYPES`.
    """
    if dtype not in (None, *DTYPES):
        raise OptionError(f"dtype is {dtype!r}; supported: {' or '.join(DTYPES)}")


def _examine(directory: Path, family: PublishedFamily, config: ModelConfig, dtype: str | None) -> _Found:
    """Keys, shapes and types, each refused where it is not fully understood."""
    check_dtype(dtype)
    marker = orbax.read_marker(directory, family.model_type)
    if marker is not None:
        dtype = dtype or marker.dtype
        orbax.check_parameters(directory, marker, shapes(abstract_model(family, config, dtype)[1]))
        return _Found(dtype, cast_digest(marker.digest, [marker.dtype], dtype), marker, {})
    table = family.keys(config)
    published = list_tensors(directory)
    names = canonical_names(published, table, str(directory))
    tensors = {canonical: published[name] for canonical, name in names.items()}
    dtype = dtype or _dominant_dtype(tensors.values())
    _check_tensors(table, tensors, shapes(abstract_model(family, config, dtype)[1]), str(directory))
    digest = cast_digest(stored_digest(config, tensors), (tensor.dtype for tensor in tensors.values()), dtype)
    return _Found(dtype, digest, None, tensors)


@lru_cache(maxsize=16)
def abstract_model(family: PublishedFamily, config: ModelConfig, dtype: str) -> tuple[Any, Any]:
    """A model's graph definition, and its state with shapes and types in place of arrays."""
    # Any seed will do: nothing is drawn.
    graphdef, state = nnx.split(nnx.eval_shape(lambda: family.build(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))))
    return graphdef, state


def shapes(abstract: Any) -> dict[tuple[str, ...], Leaf]:
    """Every parameter, or its shape and type where the state has no arrays, by its path."""
    return {tuple(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(abstract)}


def fill_state(abstract: Any, arrays: Mapping[tuple[str, ...], Leaf]) -> Any:
    """The state with arrays in it, or with shapes that tell where each array lies.

    Raises:
        RuntimeError: paths differ, which `nnx.merge` would accept and leave parameters without values.
    """
    flat = {tuple(map(str, path)): variable for path, variable in nnx.to_flat_state(abstract)}
    if flat.keys() != arrays.keys():
        raise RuntimeError(f"parameters and weights differ in {sorted(flat.keys() ^ arrays.keys())}")
    return nnx.from_flat_state([(path, variable.replace(arrays[path])) for path, variable in flat.items()])


def _dominant_dtype(tensors: Any) -> str:
    """The supported type to hold what most of the stored numbers are."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += math.prod(tensor.shape)
    return "bfloat16" if counts.most_common(1)[0][0] == "BF16" else "float32"


def _assemble(
    table: KeyTable,
    tensors: Mapping[str, StoredTensor],
    expected: Mapping[tuple[str, ...], Leaf],
    shardings: Mapping[tuple[str, ...], NamedSharding],
    where: str,
) -> Iterator[tuple[tuple[str, ...], jax.Array]]:
    """Each parameter on its devices; `_check_tensors` has seen every tensor's type and shape."""
    tensors = dict(tensors)
    if table.tied and table.head in tensors:
        _drop_tied_head(tensors, table.embedding, table.head, where)
    # The largest first: what the host holds beside the model is then at its most while the model is at its least.
    for rule in sorted(table.rules, key=lambda rule: -math.prod(expected[rule.path].shape)):
        if shardings:
            yield rule.path, place_parameter(rule, tensors, expected[rule.path], shardings[rule.path])
            continue
        buffer = aligned_empty(expected[rule.path].shape, expected[rule.path].dtype)
        for layer, name in enumerate(rule.names()):
            _copy(buffer[layer] if rule.layers else buffer, rule.own(read_tensor(tensors[name])), rule.axes)
        # Waiting keeps the buffers of parameters still on their way to the device from adding up.
        yield rule.path, jax.block_until_ready(jax.device_put(buffer))


def _check_tensors(
    table: KeyTable,
    tensors: Mapping[str, StoredTensor],
    expected: Mapping[tuple[str, ...], Leaf],
    where: str,
) -> None:
    """Refuse stored types and shapes that the configuration does not call for."""
    paths = {rule.path for rule in table.rules}
    if paths != expected.keys():
        raise RuntimeError(f"key table and model differ in {sorted(paths ^ expected.keys())}")
    rules = {name: rule for rule in table.rules for name in rule.names()}
    wrong = []
    for name, tensor in tensors.items():
        # A tied model's head has no rule of its own; it is a copy of the embedding.
        rule = rules.get(name) or rules[table.embedding]
        shape = rule.published_shape(expected[rule.path].shape)
        if tensor.dtype not in FLOATING:
            wrong.append(f"{tensor.name} has type {tensor.dtype}, expected one of {', '.join(sorted(FLOATING))}")
        elif tensor.shape != shape:
            wrong.append(f"{tensor.name} has shape {tensor.shape}, expected {shape}")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise CheckpointError(f"{where}: {wrong[0]} by config.json{more}")


def _drop_tied_head(tensors: dict[str, StoredTensor], embedding_name: str, head_name: str, where: str) -> None:
    """Leave the embedding alone of embedding and head, which must hold the same values.

    Published versions disagree on a tied model with two different tensors: some use the embedding for both, some each.
    """
    head = tensors.pop(head_name)
    embedding = tensors.setdefault(embedding_name, head)
    if embedding is not head and not np.array_equal(read_tensor(embedding), read_tensor(head)):
        raise CheckpointError(
            f"{where}: tie_word_embeddings is true, but {head.name} and {embedding.name} hold different values; "
            "set it to false in config.json if the head is meant to be used"
        )


def _copy(target: np.ndarray, source: np.ndarray, axes: tuple[int, ...]) -> None:
    """Write the transposed and cast source into the target."""
    if axes != LINEAR:
        target[...] = source.transpose(axes)
        return
    for start in range(0, source.shape[0], TRANSPOSE_ROWS):
        rows = slice(start, start + TRANSPOSE_ROWS)
        target[:, rows] = source[rows].T
