"""Converted checkpoints: an Orbax directory beside the published configuration, marked by `xmflow.json`."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Sharding

from xmflow_jax.errors import CheckpointError
from xmflow_jax.json_files import read_json_object, refuse_broken
from xmflow_jax.machine.partitioning import Leaf

# Of a parameter in the state.
Keys = tuple[str, ...]

MARKER = "xmflow.json"
PARAMETERS = "parameters"
FORMAT = 1

# Pieces that a parameter is stored in, which are read side by side. Buffers above 32 MB are given back to the system at
# once (glibc's largest mmap threshold); with smaller ones, loading peaked a seventh of the model's size higher.
CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class Marker:
    """What `xmflow.json` says.

    Attributes:
        dtype: of every parameter.
        digest: of the parameters as they were when they were converted; it is not computed again from Orbax's files,
            whose own checksums guard them.
        files: size in bytes of each of Orbax's files, by its path within the parameters' folder.
        family: of the model, as `model_type` in its config.json.
        format: version of this layout.
    """

    dtype: str
    digest: str
    files: Mapping[str, int]
    family: str
    format: int = FORMAT


def read_marker(directory: Path, family: str) -> Marker | None:
    """The marker of a converted checkpoint of this family; None if the directory is none.

    Raises:
        CheckpointError: the marker is damaged, or of a version or family that is not known.
    """
    path = directory / MARKER
    if not path.exists():
        return None
    content = read_json_object(path)
    for key, supported in {"format": (FORMAT,), "family": (family,), "dtype": ("float32", "bfloat16")}.items():
        if content.get(key) not in supported:
            raise CheckpointError(
                f"{path}: {key} is {content.get(key)!r}; supported: {' or '.join(map(repr, supported))}"
            )
    complete = content.keys() == {field.name for field in dataclasses.fields(Marker)}
    if not complete or not isinstance(content["digest"], str) or not isinstance(content["files"], dict):
        raise CheckpointError(f"{path} is damaged: expected format, family, dtype, digest and files")
    return Marker(**content)


def check_installed() -> None:
    """Refuse to go on where Orbax is missing, without which everything but converted checkpoints works.

    Raises:
        CheckpointError: it is not installed.
    """
    if find_spec("orbax") is None or find_spec("orbax.checkpoint") is None:
        raise CheckpointError(
            "converted checkpoints need orbax-checkpoint, not installed here: pip install orbax-checkpoint; or take "
            "the checkpoint that it was converted from"
        )


def save(directory: Path, arrays: Mapping[Keys, jax.Array], dtype: str, digest: str, family: str) -> None:
    """Write parameters and marker into a directory that holds neither."""
    from orbax.checkpoint import SaveArgs
    from orbax.checkpoint.args import PyTreeSave

    # Orbax wants an absolute path.
    folder = (directory / PARAMETERS).resolve()
    chunks = {path: SaveArgs(chunk_byte_size=CHUNK_BYTES) for path in arrays}
    with _checkpointer() as checkpointer:
        checkpointer.save(folder, args=PyTreeSave(_nest(arrays), save_args=_nest(chunks)))
    marker = Marker(dtype, digest, _file_sizes(folder), family)
    (directory / MARKER).write_text(json.dumps(dataclasses.asdict(marker), indent=2) + "\n", encoding="utf-8")


def _file_sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def check_files(directory: Path, marker: Marker) -> None:
    """Orbax's files are there, each of the size that it was written with.

    Looked at first because Orbax, on a file that ends early, also prints tracebacks from its threads.

    Raises:
        CheckpointError: a file is missing or of another size.
    """
    folder = (directory / PARAMETERS).resolve()
    found = _file_sizes(folder)
    wrong = sorted(name for name, size in marker.files.items() if found.get(name) != size)
    if wrong:
        refuse_broken(folder / wrong[0])
        raise CheckpointError(f"{folder}: {len(wrong)} file(s) missing or of another size ({wrong[0]}); convert again")


def check_parameters(directory: Path, marker: Marker, expected: Mapping[Keys, Leaf]) -> None:
    """The files are whole, and hold the parameters that are expected; their values are not read.

    Raises:
        CheckpointError: files are missing or damaged, or hold other parameters than those expected.
    """
    check_installed()
    check_files(directory, marker)
    folder = (directory / PARAMETERS).resolve()
    with _checkpointer() as checkpointer, _damage_told(folder):
        stored = _flatten(checkpointer.metadata(folder).item_metadata.tree)
        shapes = {path: tuple(leaf.shape) for path, leaf in stored.items()}
    if shapes != {path: leaf.shape for path, leaf in expected.items()}:
        raise CheckpointError(f"{folder} holds other parameters than config.json calls for; convert again")


def restore(
    directory: Path,
    marker: Marker,
    expected: Mapping[Keys, Leaf],
    shardings: Mapping[Keys, Sharding],
) -> dict[Keys, jax.Array]:
    """The parameters, cast to the expected types, each where `shardings` says, or on JAX's default device.

    Raises:
        CheckpointError: files are missing or damaged, or hold other parameters than those expected.
    """
    check_parameters(directory, marker, expected)
    folder = (directory / PARAMETERS).resolve()
    # The largest first, and one at a time: Orbax holds what it reads twice for a while.
    order = sorted(expected, key=lambda path: -math.prod(expected[path].shape))
    with _checkpointer() as checkpointer, _damage_told(folder):
        return {path: _restore_one(checkpointer, folder, path, expected[path], shardings.get(path)) for path in order}


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    """Errors of Orbax and of the storage library below it, which are of many kinds over damaged files, in one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder} is damaged: {reason}") from None


def _restore_one(checkpointer: Any, folder: Path, path: Keys, leaf: Leaf, sharding: Sharding | None) -> jax.Array:
    from orbax.checkpoint.args import PyTreeRestore
    from orbax.checkpoint.checkpoint_utils import construct_restore_args

    # The device that an unplaced array goes to, honouring `jax_default_device`.
    placed = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding or jnp.zeros(()).sharding)
    tree = _nest({path: placed})
    arguments = PyTreeRestore(tree, restore_args=construct_restore_args(tree), partial_restore=True)
    restored = _flatten(checkpointer.restore(folder, args=arguments))
    return jax.block_until_ready(restored[path])


def _checkpointer() -> Any:
    # Imported here because Orbax takes a while to import and reading safetensors does without it.
    from orbax.checkpoint import Checkpointer, PyTreeCheckpointHandler

    # Weights hardly compress, and decompressing them takes longer than reading safetensors.
    return Checkpointer(PyTreeCheckpointHandler(use_compression=False))


def _flatten(tree: Mapping[str, Any], path: Keys = ()) -> dict[Keys, Any]:
    """Leaves by their paths."""
    flat: dict[Keys, Any] = {}
    for name, branch in tree.items():
        flat.update(_flatten(branch, (*path, name)) if isinstance(branch, Mapping) else {(*path, name): branch})
    return flat


def _nest(flat: Mapping[Keys, Any]) -> dict[str, Any]:
    """Nested dictionaries from paths."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = leaf
    return tree
