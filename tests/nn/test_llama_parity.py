"""The Llama decoder against PyTorch, layer by layer."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.full_pass import full_pass
from tests.families.llava.torch_llava import HEAD_LAYOUTS, TextSizes, build_torch_llava, largest_difference
from xmflow_jax.families.checkpoint import load_model

HIDDEN_STATE = 1e-5
LOGITS = 1e-4


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("heads", HEAD_LAYOUTS)
def test_every_layer_and_logits(tmp_path: Path, heads: str, tied: bool) -> None:
    import torch

    model, directory = build_torch_llava(tmp_path, TextSizes(kv_heads=HEAD_LAYOUTS[heads], tied=tied, layers=4))
    tokens = np.random.default_rng(0).integers(0, 98, (2, 40))
    with torch.no_grad():
        output = model(input_ids=torch.tensor(tokens), output_hidden_states=True)
    loaded = load_model(directory, "float32")
    inputs, _, normed, logits = full_pass(loaded.net, jnp.asarray(tokens), None)
    *published, published_normed = output.hidden_states
    assert len(inputs) == len(published) == 4
    for ours, theirs in zip(inputs, published, strict=True):
        assert largest_difference(ours, theirs) < HIDDEN_STATE
    assert largest_difference(normed, published_normed) < HIDDEN_STATE
    assert largest_difference(logits, output.logits) < LOGITS
