"""The Llama decoder against PyTorch, layer by layer."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from tests.families.llava.torch_llava import HEAD_LAYOUTS, build_torch_llava, largest_difference
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.nn.llama import LlamaDecoder

HIDDEN_STATE = 1e-5
LOGITS = 1e-4


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("heads", HEAD_LAYOUTS)
def test_every_layer_and_logits(tmp_path: Path, heads: str, tied: bool) -> None:
    import torch

    model, directory = build_torch_llava(tmp_path, kv_heads=HEAD_LAYOUTS[heads], tied=tied, layers=4)
    tokens = np.random.default_rng(0).integers(0, 98, (2, 40))
    with torch.no_grad():
        output = model(input_ids=torch.tensor(tokens), output_hidden_states=True)
    loaded = load_model(directory, "float32")
    decoder: LlamaDecoder = nnx.merge(loaded.graphdef, loaded.state).language_model

    @jax.jit
    def forward(tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        last, inputs = decoder.run(decoder.embed_tokens(tokens), collect=lambda x, key, value: x)
        return inputs, decoder.norm(last), decoder.logits(last)

    inputs, normed, logits = forward(tokens)
    *published, published_normed = output.hidden_states
    assert len(inputs) == len(published) == 4
    for ours, theirs in zip(inputs, published, strict=True):
        assert largest_difference(ours, theirs) < HIDDEN_STATE
    assert largest_difference(normed, published_normed) < HIDDEN_STATE
    assert largest_difference(logits, output.logits) < LOGITS
