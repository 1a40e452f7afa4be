"""LLaVA end to end against PyTorch: logits at every position of the prompt."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.families.llava.torch_llava import (
    HEAD_LAYOUTS,
    TextSizes,
    VisionSizes,
    build_torch_llava,
    jax_logits,
    largest_difference,
    make_prompts,
    rewrite_layout,
    torch_logits,
)
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.families.llava.params import LAYOUTS

LOGITS = 1e-4


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("heads", HEAD_LAYOUTS)
def test_every_layout_and_sharding_gives_torch_logits(tmp_path: Path, heads: str, tied: bool) -> None:
    model, directory = build_torch_llava(tmp_path / "saved", TextSizes(kv_heads=HEAD_LAYOUTS[heads], tied=tied))
    prompts = make_prompts(read_checkpoint(directory).config)
    published = torch_logits(model, prompts)
    # Lively enough for the comparison to mean something.
    assert published.std() > 0.5
    digests = set()
    for layout in (one.name for one in LAYOUTS):
        for shards in (1, 3):
            rewritten = rewrite_layout(directory, tmp_path / f"{layout}-{shards}", layout, shards)
            loaded = load_model(rewritten, "float32")
            assert largest_difference(jax_logits(loaded, prompts), published) < LOGITS, (layout, shards)
            digests.add(loaded.digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    "sizes",
    [
        {"vision_feature_layer": -1},
        {"vision_feature_layer": -4},
        {"vision_feature_layer": 2},
        {"vision_feature_select_strategy": "full"},
        {"multimodal_projector_bias": False},
        {"projector_hidden_act": "quick_gelu"},
        {"vision": VisionSizes(activation="gelu")},
        {"text": TextSizes(head_width=6)},
        {"text": TextSizes(rope_theta=500.0, norm_eps=1e-2)},
        {"vision": VisionSizes(image_size=30)},
    ],
    ids=str,
)
def test_every_configurable_computation(tmp_path: Path, sizes: dict[str, Any]) -> None:
    model, directory = build_torch_llava(tmp_path, **sizes)
    prompts = make_prompts(read_checkpoint(directory).config)
    difference = largest_difference(jax_logits(load_model(directory, "float32"), prompts), torch_logits(model, prompts))
    assert difference < LOGITS


def test_first_feature_layer_by_its_index_zero(tmp_path: Path) -> None:
    # transformers 5.23 reads a 0 as "no hidden states" and fails; -4 is the same one of this tower's four.
    model, directory = build_torch_llava(tmp_path, vision_feature_layer=-4)
    prompts = make_prompts(read_checkpoint(directory).config)
    published = torch_logits(model, prompts)
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vision_feature_layer": 0}))
    assert read_checkpoint(directory).config.feature_layer == 0
    assert largest_difference(jax_logits(load_model(directory, "float32"), prompts), published) < LOGITS


def test_five_images_in_each_prompt(tmp_path: Path) -> None:
    model, directory = build_torch_llava(tmp_path)
    prompts = make_prompts(read_checkpoint(directory).config, images=5)
    assert (prompts.tokens == read_checkpoint(directory).config.image_token).sum() == 2 * 5 * 16
    difference = largest_difference(jax_logits(load_model(directory, "float32"), prompts), torch_logits(model, prompts))
    assert difference < LOGITS


def test_bfloat16(tmp_path: Path) -> None:
    """Probabilities, which are what a study reports, differ by less than 2e-2 between two bfloat16 programs.

    Each rounds its activations to 8 bits after every operation, and not after the same ones, so logits differ by
    amounts that grow with their size. Against float32, ours must be no further off than PyTorch's bfloat16 is.
    """
    import torch

    model, directory = build_torch_llava(tmp_path)
    prompts = make_prompts(read_checkpoint(directory).config, batch=8)
    exact = softmax(torch_logits(model, prompts))
    published = softmax(torch_logits(model.to(torch.bfloat16), prompts))
    loaded = load_model(directory, "bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded.state)} == {"bfloat16"}
    ours = softmax(jax_logits(loaded, prompts))
    assert largest_difference(ours, published) < 2e-2
    assert np.abs(ours - exact).mean() < 1.1 * np.abs(published - exact).mean()


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.softmax(logits, axis=-1))
