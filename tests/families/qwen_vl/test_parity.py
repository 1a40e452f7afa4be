"""The Qwen-VL models against transformers' PyTorch, eager, float32: images of eight shapes, knockouts, answers."""

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.contract import Words, make_prompt
from tests.families.full_pass import full_pass
from tests.families.parity import (
    LOGITS,
    check_bfloat16_beside,
    check_every_layer,
    check_lively_knockouts,
    last_logits,
    load_pair,
)
from tests.families.torch_reference import blocked_edges, run_blocked
from tests.knockout.tiny_study import TinyPrompt, widest
from xmflow_jax.data.batch import build_batch
from xmflow_jax.data.images import COLOURS
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import QWEN2_5_VL, QWEN2_VL, QWEN3_VL
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.fast.engine import encode
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, FROM_START, TO_END
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STEPS = 8
# (width, height): squares, both ways oblong, windows cut at either edge, images that grow and shrink.
SIZES = ((56, 56), (140, 84), (84, 140), (30, 30), (196, 56), (57, 150), (112, 113), (250, 90))
CASES = {
    "qwen2_5": (QWEN2_5_VL, QWEN2_5_VL.tiny),
    "qwen3": (QWEN3_VL, QWEN3_VL.tiny),
    "qwen2": (QWEN2_VL, replace(QWEN2_VL.tiny, text=replace(QWEN2_VL.tiny.text, tied=True))),
}
CLASSES = {
    "qwen2_5": "Qwen2_5_VLForConditionalGeneration",
    "qwen3": "Qwen3VLForConditionalGeneration",
    "qwen2": "Qwen2VLForConditionalGeneration",
}
USUAL = Words()
each_case = pytest.mark.parametrize("case", CASES)


@lru_cache
def both(case: str) -> tuple[LoadedModel, Any]:
    """Ours and transformers', of one random checkpoint."""
    return load_pair(*CASES[case], CLASSES[case])


def prompt_of(case: str, size: tuple[int, int], seed: int, words: Words = USUAL, images: int = 1) -> TinyPrompt:
    family, config = CASES[case]
    return make_prompt(family, seed, words, images, config, size)


def grid_of(family: Family, config: Any, size: tuple[int, int]) -> list[int]:
    layout = family.image_layout(config, size)
    return [1, layout.rows * config.vision.merge, layout.columns * config.vision.merge]


def run_torch(
    case: str,
    prompt: TinyPrompt,
    size: tuple[int, int],
    knockout: Knockout = NOTHING_BLOCKED,
    answer: tuple[int, ...] = (),
    **options: Any,
) -> Any:
    """One full pass over a prompt about images of one size and its answer so far, in the model's own type.

    Args:
        options: of the model's call; `model` in place of the usual one.
    """
    import torch

    family, config = CASES[case]
    model = options.pop("model", both(case)[1])
    tokens = np.append(prompt.token_ids, np.array(answer, np.int32)).astype(np.int64)
    kinds = np.append(prompt.token_ids == config.image_token, np.zeros(len(answer), bool)).astype(np.int64)
    pixels: Any = prompt.pixels
    images = int(pixels["images"].max())
    # The model remembers how far the last prompt's positions were from their indexes.
    model.model.rope_deltas = None
    return run_blocked(
        model,
        blocked_edges(prompt, knockout, len(answer)),
        input_ids=torch.tensor(tokens[None]),
        pixel_values=torch.tensor(pixels[COLOURS], dtype=model.dtype),
        image_grid_thw=torch.tensor([grid_of(family, config, size)] * images),
        mm_token_type_ids=torch.tensor(kinds[None]),
        **options,
    )


def with_layer_inputs(case: str, prompt: TinyPrompt, size: tuple[int, int], model: Any) -> SimpleNamespace:
    """Logits and states of one full pass, those of the layers as the layers take them: transformers tells Qwen3-VL's
    without the features that are added on the way from one layer to the next."""
    taken: list[Any] = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, args: taken.append(args[0]))
        for layer in model.model.language_model.layers
    ]
    output = run_torch(case, prompt, size, model=model, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(logits=output.logits, hidden_states=(*taken, output.hidden_states[-1]))


def published_logits(case: str, prompt: TinyPrompt, size: tuple[int, int], knockout: Knockout) -> np.ndarray:
    return last_logits(run_torch(case, prompt, size, knockout))


@each_case
def test_features_every_layer_and_all_logits_of_images_of_every_shape(case: str) -> None:
    loaded, model = both(case)
    # In float64, since the towers' rounding grows on its way through the decoder; rotary angles are float32 in both.
    model = deepcopy(model).double()
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(SIZES)]
    batch = build_batch(prompts)
    pixels = batch.pixels | {COLOURS: batch.pixels[COLOURS].astype(np.float64)}
    with jax.enable_x64(True):
        told = jnp.asarray(batch.tokens), pixels, jnp.asarray(batch.inputs[0].ids)
        ours = jax.tree.map(np.asarray, full_pass(widest(loaded.net), *told))
    assert len({len(prompt.token_ids) for prompt in prompts}) > 4
    for row, (prompt, size) in enumerate(zip(prompts, SIZES, strict=True)):
        check_every_layer(ours, with_layer_inputs(case, prompt, size, model), row)


@each_case
def test_several_images_in_one_prompt(case: str) -> None:
    """Windows and attention end at an image's edge, and positions count on behind it."""
    loaded, _ = both(case)
    prompt = prompt_of(case, (140, 84), 5, images=3)
    batch = build_batch([prompt])
    ours = full_pass(loaded.net, jnp.asarray(batch.tokens), batch.pixels, ids=jnp.asarray(batch.inputs[0].ids))
    theirs = run_torch(case, prompt, (140, 84)).logits[0].numpy()
    assert np.abs(np.asarray(ours.logits)[0, : len(theirs)] - theirs).max() <= LOGITS


@each_case
def test_a_batch_of_mixed_sizes_gives_what_each_image_gives_alone(case: str) -> None:
    loaded, _ = both(case)
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(SIZES[:3])]
    together = np.asarray(encode(loaded.net, build_batch(prompts).pixels))
    for row, prompt in enumerate(prompts):
        (alone,) = np.asarray(encode(loaded.net, build_batch([prompt]).pixels))
        np.testing.assert_allclose(together[row, : len(alone)], alone, rtol=0, atol=1e-5)


@each_case
def test_probabilities_under_knockout(case: str) -> None:
    """All pathways of the study in every layer; both engines; a batch of mixed sizes."""
    loaded, _ = both(case)
    sizes = SIZES[1:3]
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(sizes)]
    styled = [(pathway, CENTRED) for pathway in STUDY_PATHWAYS]
    styled += [(Pathway("Image", "All"), TO_END), (Pathway("System", "Image"), CENTRED)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 1)]
    references = [partial(published_logits, case, one, size) for one, size in zip(prompts, sizes, strict=True)]
    check_lively_knockouts(loaded, prompts, knockouts, references)


@each_case
def test_whole_answers_under_knockout(case: str) -> None:
    """Eight tokens: generated positions stand where transformers puts them, though the image takes fewer ids."""
    loaded, _ = both(case)
    sizes = SIZES[1:3]
    prompts = [prompt_of(case, size, seed, Words(2 + seed, 5, 2)) for seed, size in enumerate(sizes)]
    assert all(prompt.place.delta < 0 for prompt in prompts)
    styled = [(Pathway("Image", "Question"), TO_END), (Pathway("Question", "Last"), FROM_START)]
    rows = pathway_study(styled, loaded.anatomy, 1)
    knockouts = [*(row.knockout for row in rows), NOTHING_BLOCKED]
    request = Request(build_study(knockouts, loaded.anatomy), (10**6,), STEPS)
    found = answer_batch(loaded.net, prompts, request, lambda tokens, logits: np.ones(len(tokens), bool)).tokens
    assert found is not None
    for row, (prompt, size) in enumerate(zip(prompts, sizes, strict=True)):
        for column, knockout in enumerate(knockouts):
            answer: tuple[int, ...] = ()
            for _ in range(STEPS):
                answer += (int(run_torch(case, prompt, size, knockout, answer).logits[0, -1].argmax()),)
            assert found[row, column].tolist() == list(answer), knockout
    assert (found != found[:, -1:]).any()


@pytest.mark.parametrize(
    "case", ["qwen2_5", *(pytest.param(one, marks=pytest.mark.slow) for one in ("qwen2", "qwen3"))]
)
def test_bfloat16(case: str) -> None:
    import torch

    narrow, _ = load_pair(*CASES[case], CLASSES[case], "bfloat16")
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(SIZES)]
    model = deepcopy(both(case)[1]).to(torch.bfloat16)
    told = zip(prompts, SIZES, strict=True)
    theirs = [last_logits(run_torch(case, prompt, size, model=model)) for prompt, size in told]
    check_bfloat16_beside(both(case)[0], narrow, prompts, theirs)
