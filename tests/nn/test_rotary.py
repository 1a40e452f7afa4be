"""Rotary angles against transformers' own frequencies, of every kind of scaling."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from xmflow_jax.nn.rotary import RotaryScaling, rotary

POSITIONS = np.array([0, 1, 17, 2900], np.int32)
SCALINGS = {
    "default": ({}, None),
    "linear": ({"factor": 4.0}, RotaryScaling("linear", 4.0)),
    "llama3": (
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        RotaryScaling("llama3", 8.0, 1.0, 4.0, 8192),
    ),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_angles_are_the_published_ones(kind: str) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    settings, scaling = SCALINGS[kind]
    parameters: dict[str, Any] = {"rope_type": kind, "rope_theta": 5e5, **settings}
    published = LlamaRotaryEmbedding(LlamaConfig(hidden_size=512, num_attention_heads=4, rope_parameters=parameters))
    frequencies = published.inv_freq.numpy().astype(np.float64)
    cos, sin = rotary(jnp.asarray(POSITIONS), 128, 5e5, scaling)
    angles = POSITIONS[:, None] * frequencies
    # Of the largest angle, float32 keeps so many digits.
    np.testing.assert_allclose(cos, np.cos(angles), rtol=0, atol=5e-4)
    np.testing.assert_allclose(sin, np.sin(angles), rtol=0, atol=5e-4)
    if scaling is not None:
        plain = 1 / 5e5 ** (np.arange(0, 128, 2) / 128)
        assert np.abs(POSITIONS[-1] * (plain - frequencies)).max() > 1
