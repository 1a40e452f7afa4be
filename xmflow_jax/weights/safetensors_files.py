"""The tensors of a directory in Hugging Face format, listed without reading them and read one at a time."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from xmflow_jax.errors import CheckpointError
from xmflow_jax.json_files import read_json_object, refuse_broken

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

# The floating types that a weight may be stored in, as safetensors names them.
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies, and what its file's header says of it.

    Attributes:
        name: as the file spells it.
        dtype: as safetensors names it, such as "BF16".
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def list_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint by its published name; only the files' headers are read.

    Raises:
        CheckpointError: no safetensors files, files that are missing or damaged, tensors that the index and the files
            disagree on, or a tensor of a type other than `FLOATING`'s that is not a plain buffer of integers.
    """
    single, index = directory / SINGLE, directory / INDEX
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory")
    if single.exists() and index.exists():
        raise CheckpointError(f"{directory} holds both {SINGLE} and {INDEX}; keep the one that belongs to the model")
    if single.exists():
        return {tensor.name: tensor for tensor in _file_tensors(single)}
    if index.exists():
        return _indexed_tensors(directory, index)
    raise CheckpointError(_why_nothing(directory))


def read_tensor(tensor: StoredTensor) -> np.ndarray:
    """The tensor's values, in the type that they are stored in.

    The file is opened for this tensor alone: its pages stay mapped, and counted as used memory, until it is closed.

    Raises:
        CheckpointError: the file cannot be read any more.
    """
    with _opened(tensor.file) as file:
        values: np.ndarray = file.get_tensor(tensor.name)
    return values


def read_slice(tensor: StoredTensor, index: tuple[slice, ...]) -> np.ndarray:
    """A part of the tensor's values; no more of the file is read.

    Raises:
        CheckpointError: as for `read_tensor`.
    """
    with _opened(tensor.file) as file:
        values: np.ndarray = file.get_slice(tensor.name)[index]
    return values


def read_rows(tensors: Mapping[Path, list[StoredTensor]]) -> Iterator[tuple[StoredTensor, bytes]]:
    """A few values of each tensor, by file: all of a vector, else the first, middle and last row of the first axis."""
    for path, members in tensors.items():
        with _opened(path) as file:
            for tensor in members:
                if len(tensor.shape) < 2:
                    yield tensor, file.get_tensor(tensor.name).tobytes()
                    continue
                rows, view = tensor.shape[0], file.get_slice(tensor.name)
                chosen = sorted({0, rows // 2, rows - 1} & set(range(rows)))
                yield tensor, b"".join(view[row : row + 1].tobytes() for row in chosen)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The safetensors file, with its library's errors as ours."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        refuse_broken(path)
        raise CheckpointError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        refuse_broken(path)
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None


def _file_tensors(path: Path) -> Iterator[StoredTensor]:
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            view = file.get_slice(name)
            yield StoredTensor(path, name, tuple(view.get_shape()), str(view.get_dtype()))


def _indexed_tensors(directory: Path, index: Path) -> dict[str, StoredTensor]:
    """The tensors of all shards, which must hold exactly what the index says, each where it says."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map from tensor names to file names")
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise CheckpointError(f"{index} names the file {shard!r}; expected a name without a folder")
    absent = [shard for shard in shards if not (directory / shard).exists()]
    if absent:
        refuse_broken(directory / absent[0])
        raise CheckpointError(f"{index} names {len(absent)} missing file(s): {', '.join(absent[:4])}")
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        for tensor in _file_tensors(directory / shard):
            if tensor.name in tensors:
                raise CheckpointError(f"{tensor.name} lies in both {tensors[tensor.name].file.name} and {shard}")
            if weight_map.get(tensor.name) != shard:
                listed = weight_map.get(tensor.name, "no file")
                raise CheckpointError(f"{tensor.name} lies in {shard}; {index} says {listed}")
            tensors[tensor.name] = tensor
    unfound = sorted(weight_map.keys() - tensors.keys())
    if unfound:
        raise CheckpointError(f"{index} lists {len(unfound)} tensor(s) that no file holds: {', '.join(unfound[:4])}")
    return tensors


def _why_nothing(directory: Path) -> str:
    """One line on what a directory without a safetensors checkpoint holds instead."""
    for name in (SINGLE, INDEX):
        refuse_broken(directory / name)
    pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    if pickles:
        return (
            f"{directory} holds only pickled weights ({pickles[0]}), which are never read; convert them once with "
            "transformers: model.save_pretrained(folder, safe_serialization=True)"
        )
    if ggufs := sorted(path.name for path in directory.glob("*.gguf")):
        return f"{directory} holds only weights in GGUF ({ggufs[0]}), which are not read; take what they were made from"
    others = sorted(path.name for path in directory.glob("*.safetensors"))
    if any(re.search(r"-\d+-of-\d+$", Path(name).stem) for name in others):
        return f"{directory} holds shards ({others[0]}) without {INDEX}, which says what lies where; fetch it too"
    found = f"only {', '.join(others[:4])}" if others else "no weights"
    return f"{directory} holds {found}; expected {SINGLE} or {INDEX} with its files"
