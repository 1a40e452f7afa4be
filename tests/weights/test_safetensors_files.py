"""Files that are missing, damaged or at odds with their index."""

import json
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from xmflow_jax.errors import CheckpointError
from xmflow_jax.weights.safetensors_files import INDEX, SINGLE, list_tensors, read_tensor

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.arange(4).astype(ml_dtypes.bfloat16)


def write_sharded(directory: Path, weight_map: dict[str, str] | None = None) -> Path:
    save_file({"a": A}, directory / "one.safetensors")
    save_file({"b": B}, directory / "two.safetensors")
    listed = {"a": "one.safetensors", "b": "two.safetensors"} if weight_map is None else weight_map
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return directory


@pytest.mark.parametrize("sharded", [False, True])
def test_tensors_are_listed_and_read(tmp_path: Path, sharded: bool) -> None:
    if sharded:
        write_sharded(tmp_path)
    else:
        save_file({"a": A, "b": B}, tmp_path / SINGLE)
    tensors = list_tensors(tmp_path)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} == {
        "a": ((2, 3), "F32"),
        "b": ((4,), "BF16"),
    }
    for name, values in {"a": A, "b": B}.items():
        read = read_tensor(tensors[name])
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


def test_files_that_no_index_names_are_no_part_of_the_checkpoint(tmp_path: Path) -> None:
    save_file({"c": A}, write_sharded(tmp_path) / "consolidated.safetensors")
    assert list_tensors(tmp_path).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("weight_map", "named"),
    [
        ({"a": "one.safetensors", "b": "three.safetensors"}, "1 missing file(s): three.safetensors"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "1 tensor(s) that no file holds: c"),
        ({"a": "one.safetensors", "c": "two.safetensors"}, "b lies in two.safetensors"),
        ({"a": "two.safetensors", "b": "one.safetensors"}, "lies in one.safetensors"),
        ({"a": "../one.safetensors"}, "'../one.safetensors'"),
        ({"a": 3}, "no weight_map"),
    ],
)
def test_index_and_files_disagree(tmp_path: Path, weight_map: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(named)):
        list_tensors(write_sharded(tmp_path, weight_map))


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    save_file({"a": A, "b": B}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"a lies in both one\.safetensors and two\.safetensors"):
        list_tensors(tmp_path)


def test_index_without_weight_map(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(CheckpointError, match="no weight_map"):
        list_tensors(tmp_path)


def test_single_file_beside_an_index(tmp_path: Path) -> None:
    save_file({"a": A}, write_sharded(tmp_path) / SINGLE)
    with pytest.raises(CheckpointError, match="holds both"):
        list_tensors(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 40, -4])
def test_truncated_file(tmp_path: Path, kept: int) -> None:
    path = tmp_path / SINGLE
    save_file({"a": A}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        list_tensors(tmp_path)


def test_pickled_weights_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*save_pretrained.*safe_serialization=True"):
        list_tensors(tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        list_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="is not a directory"):
        list_tensors(tmp_path / "absent")
    save_file({"a": A}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"only adapter_model\.safetensors"):
        list_tensors(tmp_path)
