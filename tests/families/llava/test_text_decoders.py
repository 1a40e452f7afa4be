"""LLaVA with each text decoder and tower that its published checkpoints have, against PyTorch: logits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.families.llava.torch_llava import jax_logits, largest_difference, make_prompts, torch_logits
from tests.families.torch_reference import torch_model
from tests.families.variants import LLAMA_3_1, SIGLIP
from tests.weights.tiny_checkpoint import TINY, write_tiny
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.nn.rotary import RotaryScaling

LOGITS = 1e-4


def with_text(**fields: Any) -> LlavaConfig:
    return replace(TINY, text=replace(TINY.text, **fields))


CASES = {
    # Shorter than the prompt, so that it cuts.
    "mistral": with_text(model_type="mistral", span=5),
    "mistral without a window": with_text(model_type="mistral", kv_heads=4),
    "llama 3.1": with_text(rope_scaling=LLAMA_3_1, head_width=16, kv_heads=1),
    "linear": with_text(rope_scaling=RotaryScaling("linear", 4.0)),
    "qwen2": with_text(model_type="qwen2", qkv_bias=True, tied=True),
    "qwen2, siglip": replace(with_text(model_type="qwen2", qkv_bias=True), vision=SIGLIP, feature_layer=-1),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_at_every_position(tmp_path: Path, case: str) -> None:
    config = CASES[case]
    directory = write_tiny(tmp_path, config)
    prompts = make_prompts(config)
    published = torch_logits(torch_model(directory, "LlavaForConditionalGeneration"), prompts)
    loaded = load_model(directory, "float32")
    assert loaded.config == config
    assert published.std() > 0.5
    assert largest_difference(jax_logits(loaded, prompts), published) < LOGITS
