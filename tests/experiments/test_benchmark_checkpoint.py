"""The benchmark's checkpoints, written by several threads, are those of `write_random`."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.benchmarks.checkpoint import FILES, write_checkpoint
from experiments.benchmarks.presets import PRESETS
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.weights.random_checkpoint import write_random


@pytest.mark.parametrize(("dtype", "files"), [("float32", 1), ("bfloat16", FILES)])
def test_the_files_are_the_same(tmp_path: Path, dtype: str, files: int) -> None:
    preset = replace(PRESETS["tiny"], dtype=dtype)
    alone, together = tmp_path / "alone", tmp_path / "together"
    write_random(alone, LLAVA, preset.model, seed=0, dtype=dtype, shards=files)
    write_checkpoint(together, preset)
    names = sorted(path.name for path in alone.iterdir())
    assert names == sorted(path.name for path in together.iterdir())
    assert sum(name.endswith(".safetensors") for name in names) == files
    for name in names:
        assert (alone / name).read_bytes() == (together / name).read_bytes(), name
