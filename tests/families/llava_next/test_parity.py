"""LLaVA-NeXT against transformers' PyTorch, eager, float32: each text decoder, images of eight shapes, knockouts."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.full_pass import full_pass
from tests.families.llava_next.tile_prompts import SIZES, tile_prompt, torch_inputs
from tests.families.parity import LOGITS, check_every_layer, check_lively_knockouts, last_logits, load_pair
from tests.families.torch_reference import blocked_edges, run_blocked
from tests.families.variants import LLAMA_3_1, NEXT
from tests.knockout.tiny_study import TinyPrompt
from xmflow_jax.data.batch import build_batch
from xmflow_jax.families.llava_next.family import FAMILY
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.fast.engine import encode
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CASES = {
    "llama": NEXT,
    # Shorter than most prompts, so that it cuts.
    "mistral": replace(NEXT, text=replace(NEXT.text, model_type="mistral", span=17)),
    "llama 3": replace(NEXT, text=replace(NEXT.text, rope_theta=5e5, rope_scaling=LLAMA_3_1, head_width=16)),
    "qwen2, tied": replace(NEXT, text=replace(NEXT.text, model_type="qwen2", qkv_bias=True, tied=True)),
}
each_case = pytest.mark.parametrize("case", CASES)


@lru_cache
def both(case: str) -> tuple[LoadedModel, Any]:
    """Ours and transformers', of one random checkpoint."""
    return load_pair(FAMILY, CASES[case], "LlavaNextForConditionalGeneration")


def published_logits(model: Any, prompt: TinyPrompt, size: tuple[int, int], knockout: Knockout) -> np.ndarray:
    return last_logits(run_blocked(model, blocked_edges(prompt, knockout), **torch_inputs(prompt, size)))


@each_case
def test_every_layer_and_all_logits_of_images_of_every_shape(case: str) -> None:
    loaded, model = both(case)
    prompts = [tile_prompt(FAMILY, CASES[case], size, seed) for seed, size in enumerate(SIZES)]
    batch = build_batch(prompts)
    ours = jax.tree.map(np.asarray, full_pass(loaded.net, jnp.asarray(batch.tokens), batch.pixels))
    for row, (prompt, size) in enumerate(zip(prompts, SIZES, strict=True)):
        theirs = run_blocked(model, {}, **torch_inputs(prompt, size), output_hidden_states=True)
        check_every_layer(ours, theirs, row)


@each_case
def test_probabilities_under_knockout(case: str) -> None:
    """All pathways of the study and those of the views, in every layer; both engines; a batch of mixed sizes."""
    loaded, model = both(case)
    sizes = SIZES[3:6] if case == "llama" else SIZES[3:5]
    prompts = [tile_prompt(FAMILY, CASES[case], size, seed) for seed, size in enumerate(sizes)]
    views = [Pathway(view, "Question") for view in ("Image Base", "Image Tiles", "Image Newline")]
    styled = [(pathway, CENTRED) for pathway in (*STUDY_PATHWAYS, *views)] + [(Pathway("Image", "All"), TO_END)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 1)]
    references = [partial(published_logits, model, one, size) for one, size in zip(prompts, sizes, strict=True)]
    check_lively_knockouts(loaded, prompts, knockouts, references)


def test_a_batch_of_mixed_sizes_gives_what_each_image_gives_alone() -> None:
    loaded, _ = both("llama")
    prompts = [tile_prompt(FAMILY, NEXT, size, seed) for seed, size in enumerate(SIZES)]
    together = np.asarray(encode(loaded.net, build_batch(prompts).pixels))
    assert len({len(prompt.token_ids) for prompt in prompts}) > 3
    for row, prompt in enumerate(prompts):
        (alone,) = np.asarray(encode(loaded.net, build_batch([prompt]).pixels))
        np.testing.assert_allclose(together[row, : len(alone)], alone, rtol=0, atol=1e-5)


def test_several_images_in_one_prompt() -> None:
    """Each has its own tiles; transformers takes them as a list."""
    loaded, model = both("llama")
    config = loaded.config
    assert isinstance(config, LlavaNextConfig)
    one, other = (tile_prompt(FAMILY, config, size, 3) for size in (SIZES[3], SIZES[3]))
    images = [joined_pixels(config, [one, other])]
    tokens = np.concatenate([one.token_ids, other.token_ids])
    prompt = TinyPrompt(tokens, images[0], {})
    inputs = [torch_inputs(part, SIZES[3]) for part in (one, other)]
    together = {key: _concatenated([part[key] for part in inputs], 1 if key == "input_ids" else 0) for key in inputs[0]}
    theirs = run_blocked(model, {}, **together).logits.numpy()[0]
    batch = build_batch([prompt])
    ours = full_pass(loaded.net, jnp.asarray(batch.tokens), batch.pixels).logits[0, : len(tokens)]
    assert np.abs(np.asarray(ours) - theirs).max() <= LOGITS


def joined_pixels(config: LlavaNextConfig, prompts: list[TinyPrompt]) -> dict[str, np.ndarray]:
    tiles: list[np.ndarray] = []
    reads: list[np.ndarray] = []
    for prompt in prompts:
        own: Any = prompt.pixels
        before = sum(map(len, tiles)) * config.vision.patches
        tiles.append(own["colours"])
        reads.append(np.where(own["reads"] < 0, own["reads"], own["reads"] + before))
    return {"colours": np.concatenate(tiles), "reads": np.concatenate(reads)}


def _concatenated(parts: list[Any], axis: int) -> Any:
    import torch

    return torch.cat(parts, axis)
