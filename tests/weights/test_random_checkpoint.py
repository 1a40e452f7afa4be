"""Random checkpoints: readable by transformers, the same model however they are stored, and lively."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.families.llava.torch_llava import jax_logits, largest_difference, make_prompts, torch_logits
from tests.weights.tiny_checkpoint import TINY, write_tiny
from xmflow_jax.errors import OptionError
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA

TIED = replace(TINY, text=replace(TINY.text, tied=True))


@pytest.mark.parametrize("config", [TINY, TIED, replace(TINY, projector_bias=False)], ids=["plain", "tied", "no bias"])
def test_transformers_reads_it_and_agrees(tmp_path: Path, config: LlavaConfig) -> None:
    from transformers import LlavaForConditionalGeneration

    write_tiny(tmp_path, config, shards=2)
    model, report = LlavaForConditionalGeneration.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values())
    prompts = make_prompts(config)
    published = torch_logits(model.eval(), prompts)
    assert largest_difference(jax_logits(load_model(tmp_path), prompts), published) < 1e-4
    # Neither certain nor arbitrary.
    assert 1 < published.std() < 6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types_hold_the_same_numbers_rounded(tmp_path: Path, dtype: str) -> None:
    exact = load_file(write_tiny(tmp_path / "exact") / "model.safetensors")
    rounded = load_file(write_tiny(tmp_path / dtype, dtype=dtype) / "model.safetensors")
    assert exact.keys() == rounded.keys()
    for name, values in exact.items():
        np.testing.assert_array_equal(values.astype(jnp.dtype(dtype)), rounded[name])


def test_seeds_differ_and_repeat(tmp_path: Path) -> None:
    from xmflow_jax.weights.random_checkpoint import write_random

    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random(tmp_path / folder, LLAVA, TINY, seed)
    content = {folder: (tmp_path / folder / "model.safetensors").read_bytes() for folder in "abc"}
    assert content["a"] == content["b"] != content["c"]


@pytest.mark.parametrize("shards", [1, 2, 7, 73])
def test_number_of_files(tmp_path: Path, shards: int) -> None:
    write_tiny(tmp_path, shards=shards)
    assert len(list(tmp_path.glob("*.safetensors"))) == shards
    load_model(tmp_path)


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"layout": "original"}, {"shards": 0}, {"shards": 1000}], ids=str
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="supported"):
        write_tiny(tmp_path, **options)


def test_weights_are_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="holds weights already"):
        write_tiny(write_tiny(tmp_path))
