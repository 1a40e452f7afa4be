"""Prompts about random images of any size, and what transformers' LLaVA-NeXT takes of them."""

from typing import Any

import numpy as np

from tests.families.contract import PIXELS
from tests.knockout.tiny_study import TinyPrompt, mark_question
from xmflow_jax.data import roles
from xmflow_jax.data.images import COLOURS
from xmflow_jax.families.family import Family

SYSTEM, QUESTION, AFTER = 3, 4, 3
# (width, height): both halves of every canvas's unpadding, and images that fit one exactly.
SIZES = ((56, 56), (56, 28), (28, 56), (40, 100), (100, 40), (57, 50), (50, 57), (300, 20))


def tile_prompt(family: Family, config: Any, size: tuple[int, int], seed: int = 0) -> TinyPrompt:
    """System words, one image of this (width, height), a question, words behind it."""
    rng, layout = np.random.default_rng(seed), family.image_layout(config, size)
    shown = layout.positions
    length = SYSTEM + shown + QUESTION + AFTER
    tokens = rng.integers(1, config.text.vocabulary - 1, length).astype(np.int32)
    tokens[SYSTEM : SYSTEM + shown] = config.image_token
    mask = {role: np.zeros(length, bool) for role in roles.ROLES}
    mask[roles.SYSTEM][:SYSTEM] = True
    mask[roles.IMAGE] = tokens == config.image_token
    for role, positions in layout.views.items():
        mask[role][SYSTEM : SYSTEM + shown] = positions
    # The second patch of the whole, and the first one of the large picture.
    mask[roles.IMAGE_CENTRAL_OBJECT][[SYSTEM + 1, SYSTEM + config.vision.patches]] = True
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = mask[roles.IMAGE] & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mark_question(mask, SYSTEM + shown, QUESTION)
    return TinyPrompt(tokens, PIXELS[family.model_type](config, 1, rng, size), mask)


def torch_inputs(prompt: TinyPrompt, size: tuple[int, int]) -> dict[str, Any]:
    """Of transformers' model."""
    import torch

    pixels: Any = prompt.pixels
    return {
        "input_ids": torch.tensor(prompt.token_ids[None].astype(np.int64)),
        "pixel_values": torch.tensor(pixels[COLOURS].transpose(0, 3, 1, 2)[None]),
        "image_sizes": torch.tensor([[size[1], size[0]]]),
    }
