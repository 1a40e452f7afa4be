"""One line that identifies a model's parameters, at the price of reading a few rows of each tensor."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xmflow_jax.nn.anatomy import LIMIT
from xmflow_jax.weights.published import ModelConfig
from xmflow_jax.weights.safetensors_files import StoredTensor, read_rows

# Stored types whose every value the run's type holds exactly.
EXACT: Mapping[str, frozenset[str]] = {
    "float32": frozenset({"F32", "F16", "BF16", "float32", "bfloat16"}),
    "bfloat16": frozenset({"BF16", "bfloat16"}),
}


def stored_digest(config: ModelConfig, tensors: Mapping[str, StoredTensor]) -> str:
    """SHA-256 of a checkpoint's parameters, hexadecimal.

    It covers the configuration as it was understood, and of every tensor the canonical name, type, shape and a sample
    of the values: all of a vector, the first, middle and last row of anything larger. It does not depend on how the
    tensors are spelt or split over files, or on the tokenizer. Training changes every row of every tensor and so the
    digest; editing single rows by hand may leave it as it was.

    Args:
        tensors: by canonical name.
    """
    by_file: dict[Path, list[StoredTensor]] = {}
    for tensor in tensors.values():
        by_file.setdefault(tensor.file, []).append(tensor)
    samples = {(tensor.file, tensor.name): hashlib.sha256(values).hexdigest() for tensor, values in read_rows(by_file)}
    whole = hashlib.sha256(json.dumps(_settings(config), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        line = [name, tensor.dtype, list(tensor.shape), samples[tensor.file, tensor.name]]
        whole.update(json.dumps(line).encode())
    return whole.hexdigest()


def _settings(config: Any) -> Any:
    """A configuration as `dataclasses.asdict` gives it, without limits, which shape no parameter, and without what
    equals its default: a field that a later version adds leaves the models of before what they were."""
    if not dataclasses.is_dataclass(config):
        return config
    own = (field for field in dataclasses.fields(config) if not LIMIT.keys() <= field.metadata.keys())
    told = {field.name: (getattr(config, field.name), field.default) for field in own}
    return {name: _settings(value) for name, (value, default) in told.items() if value != default}


def cast_digest(stored: str, stored_dtypes: Iterable[str], dtype: str) -> str:
    """The digest of parameters after a cast: another one if, and only if, the cast may have rounded.

    So a converted checkpoint, and one loaded in a wider type, keep the digest of what they hold the values of.
    """
    if set(stored_dtypes) <= EXACT[dtype]:
        return stored
    return hashlib.sha256(f"{stored} as {dtype}".encode()).hexdigest()
