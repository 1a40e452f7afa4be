"""LLaVA with each text decoder and tower of its published checkpoints against PyTorch: clean and knocked out."""

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.full_pass import full_pass
from tests.families.parity import check_every_layer, check_lively_knockouts, last_logits
from tests.families.torch_reference import blocked_edges, run_blocked, torch_model
from tests.families.variants import LLAMA_3_1, SIGLIP
from tests.knockout.tiny_study import TinyPrompt, tiny_prompt
from tests.weights.tiny_checkpoint import TINY, write_tiny
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED
from xmflow_jax.nn.rotary import RotaryScaling
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")


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
KNOCKED_OUT = ("mistral", "llama 3.1", "qwen2, siglip")


@lru_cache
def both(case: str) -> tuple[LoadedModel, Any]:
    with TemporaryDirectory() as folder:
        directory = write_tiny(Path(folder) / "model", CASES[case])
        loaded = load_model(directory, "float32")
        assert loaded.config == CASES[case]
        return loaded, torch_model(directory, "LlavaForConditionalGeneration")


def prompts_of(case: str) -> list[TinyPrompt]:
    config = CASES[case]
    shapes = ((3, 4, 3), (5, 7, 4))
    made = [tiny_prompt(seed, *shape) for seed, shape in enumerate(shapes)]
    return [replace(one, token_ids=retold(one, config)) for one in made]


def retold(prompt: TinyPrompt, config: LlavaConfig) -> np.ndarray:
    """The prompt's words among those that the model has, its image positions marked as the model marks them."""
    words = prompt.token_ids % config.image_token
    return np.where(prompt.roles["Image"], config.image_token, words).astype(np.int32)


def torch_inputs(prompt: TinyPrompt) -> dict[str, Any]:
    import torch

    tokens = torch.tensor(prompt.token_ids[None].astype(np.int64))
    return {"input_ids": tokens, "pixel_values": torch.tensor(prompt.pixels.transpose(0, 3, 1, 2))}


def published_logits(model: Any, prompt: TinyPrompt, knockout: Knockout) -> np.ndarray:
    return last_logits(run_blocked(model, blocked_edges(prompt, knockout), **torch_inputs(prompt)))


@pytest.mark.parametrize("case", CASES)
def test_every_layer_and_all_logits(case: str) -> None:
    loaded, model = both(case)
    for prompt in prompts_of(case):
        theirs = run_blocked(model, {}, **torch_inputs(prompt), output_hidden_states=True)
        ours = jax.tree.map(
            np.asarray, full_pass(loaded.net, jnp.asarray(prompt.token_ids[None]), jnp.asarray(prompt.pixels))
        )
        check_every_layer(ours, theirs)


@pytest.mark.parametrize("case", KNOCKED_OUT)
def test_probabilities_under_knockout(case: str) -> None:
    """All pathways of the study, in every layer; both engines."""
    loaded, model = both(case)
    prompts = prompts_of(case)
    rows = pathway_study([(pathway, CENTRED) for pathway in STUDY_PATHWAYS], loaded.anatomy, 1)
    knockouts = [row.knockout for row in rows]
    references = [partial(published_logits, model, prompt) for prompt in prompts]
    check_lively_knockouts(loaded, prompts, knockouts, references)
