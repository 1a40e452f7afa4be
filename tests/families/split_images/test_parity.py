"""InternVL, Idefics3 and SmolVLM against transformers' PyTorch, eager, float32: images of eight shapes, knockouts,
whole answers, bfloat16."""

from copy import deepcopy
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.contract import Words, make_prompt
from tests.families.full_pass import full_pass
from tests.families.parity import (
    LAYER,
    LOGITS,
    assert_close,
    check_bfloat16_beside,
    check_every_layer,
    check_lively_knockouts,
    last_logits,
    load_pair,
)
from tests.families.torch_reference import blocked_edges, run_blocked
from tests.families.variants import VARIANTS
from tests.knockout.tiny_study import TinyPrompt
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.families.registry import IDEFICS3, INTERNVL, SMOLVLM
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.fast.engine import encode
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, FROM_START, TO_END
from xmflow_jax.nn.pictures import one_by_one
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STEPS = 8
# (width, height): not split, one row, one column, grids both ways oblong, one with the most tiles.
SIZES = ((28, 28), (100, 20), (20, 100), (120, 80), (60, 90), (200, 190), (150, 50), (90, 31))
CASES = {
    "internvl": (INTERNVL, INTERNVL.tiny),
    "internvl qwen3": (INTERNVL, VARIANTS["internvl"]["qwen3, whole patches"]),
    "idefics3": (IDEFICS3, VARIANTS["idefics3"]["tied, whole tiles"]),
    "smolvlm": (SMOLVLM, SMOLVLM.tiny),
}
CLASSES = {
    "internvl": "InternVLForConditionalGeneration",
    "idefics3": "Idefics3ForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
USUAL = Words()
each_case = pytest.mark.parametrize("case", CASES)
# Idefics3 is SmolVLM but for names.
each_form = pytest.mark.parametrize("case", ["internvl", "smolvlm"])


@lru_cache
def both(case: str) -> tuple[LoadedModel, Any]:
    """Ours and transformers', of one random checkpoint."""
    return load_pair(*CASES[case], CLASSES[case.split()[0]])


def prompt_of(case: str, size: tuple[int, int], seed: int, words: Words = USUAL, images: int = 1) -> TinyPrompt:
    family, config = CASES[case]
    return make_prompt(family, seed, words, images, config, size)


def torch_pixels(case: str, prompt: TinyPrompt) -> Any:
    """As transformers' model takes them: tiles alone, or the tiles of each of a batch of prompts."""
    import torch

    pixels: Any = prompt.pixels
    tiles = torch.tensor(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return tiles if case.startswith("internvl") else tiles[None]


def run_torch(
    case: str, prompt: TinyPrompt, knockout: Knockout = NOTHING_BLOCKED, answer: tuple[int, ...] = (), **options: Any
) -> Any:
    """One full pass over a prompt and its answer so far.

    Args:
        options: of the model's call; `model` in place of the usual one.
    """
    import torch

    model = options.pop("model", both(case)[1])
    tokens = np.append(prompt.token_ids, np.array(answer, np.int32)).astype(np.int64)
    return run_blocked(
        model,
        blocked_edges(prompt, knockout, len(answer)),
        input_ids=torch.tensor(tokens[None]),
        pixel_values=torch_pixels(case, prompt).to(model.dtype),
        **options,
    )


def published_logits(case: str, prompt: TinyPrompt, knockout: Knockout) -> np.ndarray:
    return last_logits(run_torch(case, prompt, knockout))


@each_case
def test_features_every_layer_and_all_logits_of_images_of_every_shape(case: str) -> None:
    loaded, model = both(case)
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(SIZES)]
    assert len({len(prompt.token_ids) for prompt in prompts}) > 4
    batch = build_batch(prompts)
    ours = jax.tree.map(
        np.asarray, full_pass(loaded.net, jnp.asarray(batch.tokens), one_by_one(jnp.asarray(batch.pixels)))
    )
    features = np.asarray(encode(loaded.net, batch.pixels))
    for row, prompt in enumerate(prompts):
        check_every_layer(ours, run_torch(case, prompt, output_hidden_states=True), row)
        # Idefics3 gives one tensor for each prompt.
        theirs = [one.detach().numpy() for one in model.get_image_features(torch_pixels(case, prompt)).pooler_output]
        expected = np.concatenate(theirs).reshape(-1, theirs[0].shape[-1])
        bound = LAYER * float(np.abs(expected).max())
        assert_close(features[row, : len(expected)], expected, bound, f"prompt {row}, features")


@each_form
def test_several_images_in_one_prompt(case: str) -> None:
    prompt = prompt_of(case, (60, 90), 5, images=3)
    batch = build_batch([prompt])
    ours = full_pass(both(case)[0].net, jnp.asarray(batch.tokens), one_by_one(jnp.asarray(batch.pixels)))
    theirs = run_torch(case, prompt).logits[0].numpy()
    assert_close(np.asarray(ours.logits)[0, : len(theirs)], theirs, LOGITS, "logits")


@each_form
def test_probabilities_under_knockout(case: str) -> None:
    """All pathways of the study and those of the views, in every layer; both engines; a batch of mixed sizes."""
    loaded, _ = both(case)
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(SIZES[3:5])]
    views = [Pathway(view, "Question") for view in roles.SPLIT_VIEWS]
    styled = [(pathway, CENTRED) for pathway in (*STUDY_PATHWAYS, *views)]
    styled += [(Pathway("Image", "All"), TO_END), (Pathway("System", "Image"), CENTRED)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 1)]
    references = [partial(published_logits, case, prompt) for prompt in prompts]
    check_lively_knockouts(loaded, prompts, knockouts, references)


@each_form
def test_whole_answers_under_knockout(case: str) -> None:
    loaded, _ = both(case)
    # Of seeds with which no answer holds the mark of an image, behind which transformers would look for one.
    prompts = [prompt_of(case, size, 10 + seed, Words(2 + seed, 5, 2)) for seed, size in enumerate(SIZES[3:5])]
    styled = [(Pathway("Image", "Question"), TO_END), (Pathway("Question", "Last"), FROM_START)]
    knockouts = [*(row.knockout for row in pathway_study(styled, loaded.anatomy, 1)), NOTHING_BLOCKED]
    request = Request(build_study(knockouts, loaded.anatomy), (10**6,), STEPS)
    found = answer_batch(loaded.net, prompts, request, lambda tokens, logits: np.ones(len(tokens), bool)).tokens
    assert found is not None
    for row, prompt in enumerate(prompts):
        for column, knockout in enumerate(knockouts):
            answer: tuple[int, ...] = ()
            for _ in range(STEPS):
                answer += (int(run_torch(case, prompt, knockout, answer).logits[0, -1].argmax()),)
            assert found[row, column].tolist() == list(answer), knockout
    assert (found != found[:, -1:]).any()


@pytest.mark.slow
@each_form
def test_bfloat16(case: str) -> None:
    import torch

    narrow, _ = load_pair(*CASES[case], CLASSES[case], "bfloat16")
    # So many that the mean of what rounding does settles.
    prompts = [prompt_of(case, size, seed) for seed, size in enumerate(5 * SIZES)]
    model = deepcopy(both(case)[1]).to(torch.bfloat16)
    theirs = [last_logits(run_torch(case, prompt, model=model)) for prompt in prompts]
    check_bfloat16_beside(both(case)[0], narrow, prompts, theirs)
