"""CLIP's vision transformer against PyTorch, hidden state by hidden state."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from tests.families.llava.torch_llava import VisionSizes, build_torch_llava, largest_difference, make_prompts
from xmflow_jax.families.checkpoint import load_model

HIDDEN_STATE = 1e-5


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_every_hidden_state(tmp_path: Path, activation: str) -> None:
    import torch

    sizes = VisionSizes(activation=activation, layers=4, image_size=42)
    model, directory = build_torch_llava(tmp_path, vision=sizes)
    loaded = load_model(directory, "float32")
    tower = nnx.merge(loaded.graphdef, loaded.state).vision_tower
    pixels = make_prompts(loaded.config, batch=3).pixels
    with torch.no_grad():
        output = model.model.vision_tower(torch.tensor(pixels.transpose(0, 3, 1, 2)), output_hidden_states=True)
    ours = jax.jit(tower.hidden_states)(pixels)
    assert len(ours) == len(output.hidden_states) == 5
    for index, published in enumerate(output.hidden_states):
        assert largest_difference(ours[index], published) < HIDDEN_STATE
    # The states that LLaVA reads are computed without the blocks after them.
    alone = jax.jit(tower.hidden_state, static_argnums=1)(pixels, -2)
    assert largest_difference(alone, output.hidden_states[-2]) < HIDDEN_STATE
    # LLaVA reads no pooled output, but the norm is loaded, and must be the right one.
    assert largest_difference(tower.post_layernorm(ours[-1][:, 0]), output.pooler_output) < HIDDEN_STATE


def test_pixels_matter(tmp_path: Path) -> None:
    """The comparison above would be empty if the tower ignored its input."""
    _, directory = build_torch_llava(tmp_path)
    loaded = load_model(directory, "float32")
    tower = nnx.merge(loaded.graphdef, loaded.state).vision_tower
    pixels = make_prompts(loaded.config).pixels
    changed = np.array(pixels)
    changed[0, 0, 0, 0] += 1
    hidden_state = jax.jit(tower.hidden_state, static_argnums=1)
    moved = np.abs(np.asarray(hidden_state(pixels, -2) - hidden_state(changed, -2)))
    assert moved[0].max() > 1e-3
    assert moved[1].max() == 0
