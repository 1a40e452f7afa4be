"""A tiny random model that reads the image by cross-attention, and prompts whose image roles are the encoder's."""

from functools import lru_cache

import numpy as np
from flax import nnx

from tests.knockout.tiny_study import VOCABULARY, TinyPrompt, mark_question
from tests.random_network import random_network
from xmflow_jax.data import roles
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig, CrossAttentionModel
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gpt2 import Gpt2Config
from xmflow_jax.nn.network import Network


@lru_cache
def tiny_cross_attention(
    layers: int = 4, heads: int = 4, keep_class_token: bool = True, cross_scale: str = "head_width", grid: int = 2
) -> tuple[CrossAttentionConfig, Network]:
    """(configuration, network) with attention far from uniform."""
    config = CrossAttentionConfig(
        ClipVisionConfig(14 * grid, 14, width=16, mlp_width=24, layers=2, heads=2),
        Gpt2Config(VOCABULARY, 24, 40, layers, heads, positions=64, cross_scale=cross_scale),
        keep_class_token=keep_class_token,
    )
    net = random_network(lambda: CrossAttentionModel(config, rngs=nnx.Rngs(0)))
    # Sharper queries, so that every knockout has an effect far above rounding.
    for path, leaf in nnx.to_flat_state(net.params):
        if any("q_" in str(part) or "q_proj" in str(part) for part in path) and "language_model" in path:
            leaf.set_value(leaf.get_value() * 3)
    return config, net


def tiny_text_prompt(
    seed: int, before: int = 3, question: int = 4, after: int = 3, grid: int = 2, class_positions: int = 1
) -> TinyPrompt:
    """System words, the question, words of the template; the image's roles are over the encoder's positions."""
    rng = np.random.default_rng(seed)
    visual, length = class_positions + grid**2, before + question + after
    mask = {role: np.zeros(visual if role in roles.IMAGE_ROLES else length, bool) for role in roles.ROLES}
    mask[roles.SYSTEM][:before] = True
    mask[roles.IMAGE][:] = True
    mask[roles.IMAGE_CENTRAL_OBJECT][class_positions + 1 : class_positions + 3] = True
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = mask[roles.IMAGE] & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mask[roles.IMAGE_PAD][class_positions] = True
    mark_question(mask, before, question)
    tokens = rng.integers(1, VOCABULARY, length).astype(np.int32)
    pixels = rng.normal(size=(1, 14 * grid, 14 * grid, 3)).astype(np.float32)
    return TinyPrompt(tokens, pixels, mask)
