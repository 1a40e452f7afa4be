"""Weights read straight into their shards: the same values, each byte read by those alone who hold it."""

import math
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from tests.families.variants import ENCODER_DECODERS as CONFIGS
from tests.weights.test_load import assert_same_parameters
from tests.weights.tiny_checkpoint import TINY, write_tiny
from xmflow_jax.convert import convert
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.registry import VISION_ENCODER_DECODER
from xmflow_jax.machine.partitioning import DATA, MODEL, parameter_shardings, split_bytes
from xmflow_jax.study.shipped import shipped_checkpoint
from xmflow_jax.weights import shards
from xmflow_jax.weights.load import abstract_model, shapes
from xmflow_jax.weights.random_checkpoint import write_random
from xmflow_jax.weights.safetensors_files import StoredTensor, read_slice


def device_mesh(side: int, model: int) -> Mesh:
    grid = np.array(jax.devices()[: side * model]).reshape(side, model)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("side", "model"), [(1, 2), (4, 2)])
def test_a_published_checkpoint(tmp_path: Path, dtype: str, side: int, model: int) -> None:
    write_tiny(tmp_path, dtype=dtype)
    mesh = device_mesh(side, model)
    loaded, alone = load_model(tmp_path, mesh=mesh), load_model(tmp_path)
    assert_same_parameters(loaded, alone)
    assert loaded.digest == alone.digest
    wanted = parameter_shardings(loaded.family.partitioning(loaded.config), shapes(alone.state), mesh)
    for path, leaf in shapes(loaded.state).items():
        assert leaf.sharding == wanted[path]
    assert any(MODEL in sharding.spec for sharding in wanted.values())


@pytest.mark.parametrize("name", ["shapes-llava", "shapes-crossattn"])
def test_a_converted_checkpoint_of_either_family(name: str) -> None:
    directory = shipped_checkpoint(name)
    loaded = load_model(directory, mesh=device_mesh(2, 4))
    assert_same_parameters(loaded, load_model(directory))
    kernel = next(leaf for path, leaf in shapes(loaded.state).items() if path[-2:] == ("q_proj", "kernel"))
    assert kernel.sharding.spec == PartitionSpec(None, None, MODEL)
    assert kernel.addressable_shards[0].data.shape[-1] == kernel.shape[-1] // 4


@pytest.mark.parametrize(("encoder", "layout"), [("clip", "encoder-decoder-4"), ("vit", "encoder-decoder-v5-memory")])
def test_tensors_that_fuse_several_parameters(tmp_path: Path, encoder: str, layout: str) -> None:
    """GPT-2 stores queries, keys and values as one tensor: a part of each is a slice of its third."""
    write_random(tmp_path, VISION_ENCODER_DECODER, CONFIGS[encoder], seed=0, layout=layout)
    assert_same_parameters(load_model(tmp_path, mesh=device_mesh(2, 2)), load_model(tmp_path))


def test_converted_after_being_published(tmp_path: Path) -> None:
    write_tiny(tmp_path / "published")
    convert(tmp_path / "published", tmp_path / "converted")
    mesh = device_mesh(1, 2)
    assert_same_parameters(load_model(tmp_path / "converted", mesh=mesh), load_model(tmp_path / "published", mesh=mesh))


def test_no_more_is_read_than_the_devices_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mesh over two devices, what the first of them needs: half of what is split, all of the rest, once."""
    write_tiny(tmp_path, replace(TINY, text=replace(TINY.text, heads=4, kv_heads=2)))
    read: list[int] = []

    def count(tensor: StoredTensor, index: tuple[slice, ...]) -> np.ndarray:
        values = read_slice(tensor, index)
        read.append(values.nbytes)
        return values

    monkeypatch.setattr(shards, "read_slice", count)
    loaded = load_model(tmp_path, mesh=device_mesh(1, 2))
    leaves = shapes(abstract_model(loaded.family, loaded.config, loaded.dtype)[1])
    whole = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves.values())
    half = split_bytes(loaded.family.partitioning(loaded.config), leaves, 2)
    assert half < 0.75 * whole
    # Both devices are of this process: together they read all once, and what is kept whole is not read twice.
    assert sum(read) == whole
    for device in jax.devices()[:2]:
        held = sum(
            shard.data.nbytes
            for leaf in jax.tree.leaves(loaded.state)
            for shard in leaf.addressable_shards
            if shard.device == device
        )
        assert held == half
