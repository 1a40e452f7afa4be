"""Converted checkpoints: an Orbax directory beside the published configuration, marked by `xmflow.json`."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from xmflow_jax.errors import CheckpointError
from xmflow_jax.weights.json_files import read_json_object

MARKER = "xmflow.json"
PARAMETERS = "parameters"
FORMAT = 1
FAMILY = "llava"


@dataclass(frozen=True)
class Marker:
    """What `xmflow.json` says.

    Attributes:
        dtype: of every parameter.
        digest: of the parameters as they were when they were converted; it is not computed again from Orbax's files,
            whose own checksums guard them.
        format: version of this layout.
        family: of the model.
    """

    dtype: str
    digest: str
    format: int = FORMAT
    family: str = FAMILY


def read_marker(directory: Path) -> Marker | None:
    """The marker of a converted checkpoint; None if the directory is none.

    Raises:
        CheckpointError: the marker is damaged, or of a version or family that is not known.
    """
    path = directory / MARKER
    if not path.exists():
        return None
    content = read_json_object(path)
    for key, supported in {"format": (FORMAT,), "family": (FAMILY,), "dtype": ("float32", "bfloat16")}.items():
        if content.get(key) not in supported:
            raise CheckpointError(
                f"{path}: {key} is {content.get(key)!r}; supported: {' or '.join(map(repr, supported))}"
            )
    if content.keys() != {field.name for field in dataclasses.fields(Marker)} or not isinstance(content["digest"], str):
        raise CheckpointError(f"{path} is damaged: expected format, family, dtype and digest")
    return Marker(**content)


def save(directory: Path, arrays: Mapping[tuple[str, ...], jax.Array], marker: Marker) -> None:
    """Write parameters and marker into a directory that holds neither."""
    checkpointer = _checkpointer()
    with checkpointer:
        # Orbax wants an absolute path.
        checkpointer.save((directory / PARAMETERS).resolve(), _nest(arrays))
    (directory / MARKER).write_text(json.dumps(dataclasses.asdict(marker), indent=2) + "\n", encoding="utf-8")


def restore(
    directory: Path, expected: Mapping[tuple[str, ...], jax.ShapeDtypeStruct]
) -> dict[tuple[str, ...], jax.Array]:
    """The parameters, cast to the expected types, on JAX's default device.

    Raises:
        CheckpointError: files are missing or damaged, or hold other parameters than those expected.
    """
    path = (directory / PARAMETERS).resolve()
    if not path.is_dir():
        raise CheckpointError(f"{path} is missing; convert the checkpoint again")
    # The device that an unplaced array goes to, honouring `jax_default_device`.
    sharding = jax.numpy.zeros(()).sharding
    abstract = {key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) for key, leaf in expected.items()}
    checkpointer = _checkpointer()
    with checkpointer:
        try:
            restored = checkpointer.restore(path, _nest(abstract))
        # Orbax and the storage library below it raise errors of many kinds over missing and damaged files.
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{path} is damaged or does not fit config.json: {reason}") from None
    return {key: _leaf(restored, key) for key in expected}


def _checkpointer() -> Any:
    # Imported here because Orbax takes a while to import and reading safetensors does without it.
    import orbax.checkpoint

    return orbax.checkpoint.StandardCheckpointer()


def _nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Nested dictionaries from paths."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = leaf
    return tree


def _leaf(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    branch: Any = tree
    for part in path:
        branch = branch[part]
    return branch
