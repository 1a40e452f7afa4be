"""PaliGemma 1 and 2 against PyTorch: transformers' model in eager float32, clean and under explicit masks."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.contract import Words, make_prompt
from tests.families.full_pass import full_pass
from tests.families.torch_reference import Published, torch_model
from tests.families.variants import PALIGEMMA_2
from tests.knockout.tiny_study import arrays, run_plain
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.registry import PALIGEMMA
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, block
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, FROM_START, SINGLE, TO_END
from xmflow_jax.weights.load import LoadedModel
from xmflow_jax.weights.random_checkpoint import write_random

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOUND = 1e-5
CONFIGS = {"gemma": PALIGEMMA.tiny, "gemma2": PALIGEMMA_2}
each_decoder = pytest.mark.parametrize("decoder", CONFIGS)
first_slower = pytest.mark.parametrize("decoder", [pytest.param("gemma", marks=pytest.mark.slow), "gemma2"])
PATHWAYS = [
    *(Pathway("Image", target) for target in ("Question", "Last", "Image")),
    *(Pathway("Question", target) for target in ("Last", "Image", "Question")),
    *(Pathway("Last", target) for target in ("Last", "Question")),
]
PROMPTS = [make_prompt(PALIGEMMA, 0, Words(0, 5, 2)), make_prompt(PALIGEMMA, 1, Words(0, 8, 3))]


def token_types(prompt: np.ndarray, generated: int) -> np.ndarray:
    """The prompt is the prefix; what is generated is not."""
    return np.append(np.zeros(len(prompt), int), np.ones(generated, int))


@lru_cache
def both(decoder: str, dtype: str = "float32") -> tuple[LoadedModel, Published]:
    """The same random checkpoint here and in PyTorch."""
    with TemporaryDirectory() as folder:
        write_random(Path(folder), PALIGEMMA, CONFIGS[decoder], seed=0)
        loaded = load_model(Path(folder), dtype)
        assert loaded.config == CONFIGS[decoder]
        return loaded, Published(torch_model(Path(folder), "PaliGemmaForConditionalGeneration"), token_types)


def probabilities(logits: Any) -> np.ndarray:
    return np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1))


@each_decoder
def test_every_hidden_state_and_logit(decoder: str) -> None:
    loaded, published = both(decoder)
    prompt = PROMPTS[0]
    theirs = published.run(prompt, NOTHING_BLOCKED, output_hidden_states=True)
    model: Any = loaded.net.module()
    features = published.model.get_image_features(theirs_pixels(prompt)).pooler_output.detach().numpy()
    np.testing.assert_allclose(model.visual(jnp.asarray(prompt.pixels)[None])[0], features[0], rtol=0, atol=BOUND)
    assert prompt.place.blocks is not None
    own = full_pass(
        loaded.net,
        jnp.asarray(prompt.token_ids[None]),
        jnp.asarray(prompt.pixels),
        jnp.asarray(prompt.place.axes[None]),
        jnp.asarray(prompt.place.blocks[None]),
    )
    *before, normed = (state.numpy() for state in theirs.hidden_states)
    assert len(before) == loaded.config.text.layers
    for layer, expected in enumerate(before):
        np.testing.assert_allclose(own.inputs[layer], expected, rtol=0, atol=BOUND * np.abs(expected).max())
    np.testing.assert_allclose(own.normed, normed, rtol=0, atol=BOUND * np.abs(normed).max())
    logits = theirs.logits.numpy()
    assert logits.std() > 0.5
    np.testing.assert_allclose(own.logits, logits, rtol=0, atol=1e-4)


def theirs_pixels(prompt: Any) -> Any:
    import torch

    return torch.tensor(prompt.pixels.transpose(0, 3, 1, 2))


@first_slower
def test_every_pathway_in_every_layer_in_both_engines(decoder: str) -> None:
    loaded, published = both(decoder)
    layers = range(loaded.anatomy.main.layers)
    knockouts = [block(pathway, [layer]) for pathway in PATHWAYS for layer in layers]
    knockouts += [block(pathway, layers) for pathway in PATHWAYS]
    study = build_study(knockouts, loaded.anatomy)
    batch, positions = arrays(PROMPTS, study)
    fast = sweep_fast(loaded.net, batch, positions, study)
    plain = run_plain(loaded.net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
    expected = np.array([[published.logits(prompt, one) for one in knockouts] for prompt in PROMPTS])
    clean = np.array([published.logits(prompt, NOTHING_BLOCKED) for prompt in PROMPTS])
    np.testing.assert_allclose(probabilities(fast.base), probabilities(clean), rtol=0, atol=BOUND)
    for engine in (fast.knockout, plain):
        np.testing.assert_allclose(probabilities(engine), probabilities(expected), rtol=0, atol=BOUND)
        np.testing.assert_array_equal(np.asarray(engine).argmax(-1), expected.argmax(-1))
    effects = np.abs(probabilities(expected) - probabilities(clean)[:, None]).max((0, 2))
    # What the last layer's rows other than the answer's see reaches no answer.
    reaches = [one.switched[0][0].target.role == "Last" or one.switched[0][1] != (layers[-1],) for one in knockouts]
    np.testing.assert_array_equal(effects > 100 * BOUND, reaches)
    np.testing.assert_array_equal(effects[~np.array(reaches)], 0)


@first_slower
def test_whole_answers_under_knockout(decoder: str) -> None:
    loaded, published = both(decoder)
    styled = [(Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Image"), TO_END)]
    styled += [(Pathway("Image", "Last"), FROM_START), (Pathway("Last", "Last"), SINGLE)]
    knockouts = [NOTHING_BLOCKED, *(row.knockout for row in pathway_study(styled, loaded.anatomy, 2))]
    expected = [[published.answer(prompt, one, 6) for one in knockouts] for prompt in PROMPTS]
    study = build_study(knockouts, loaded.anatomy)
    for engine in ("fast", "plain"):
        found = answer_batch(
            loaded.net, PROMPTS, Request(study, (10**6,), 6, engine), lambda tokens, _: np.ones(len(tokens), bool)
        )
        np.testing.assert_array_equal(found.tokens, expected)
    changed = (np.array(expected) != np.array(expected)[:, :1]).any(2)
    assert 0.1 < changed.mean() < 1


@each_decoder
def test_the_reference_is_what_generate_gives(decoder: str) -> None:
    """Token types and positions of generated tokens are those of transformers' own loop, with its cache."""
    import torch

    _, published = both(decoder)
    prompt = PROMPTS[1]
    with torch.inference_mode():
        tokens = published.model.generate(
            input_ids=torch.tensor(prompt.token_ids[None].astype(np.int64)),
            attention_mask=torch.ones((1, len(prompt.token_ids)), dtype=torch.long),
            pixel_values=theirs_pixels(prompt),
            token_type_ids=torch.zeros((1, len(prompt.token_ids)), dtype=torch.long),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
        )
    assert tokens[0, len(prompt.token_ids) :].tolist() == published.answer(prompt, NOTHING_BLOCKED, 6)


@first_slower
def test_bfloat16(decoder: str) -> None:
    """Probabilities within 2e-2 of float32's."""
    wide, narrow = (both(decoder, dtype)[0] for dtype in ("float32", "bfloat16"))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(narrow.state)} == {"bfloat16"}
    knockouts = [NOTHING_BLOCKED, *(block(Pathway(source, "Last"), [1]) for source in ("Image", "Question"))]
    study = build_study(knockouts, wide.anatomy)
    batch, positions = arrays(PROMPTS, study)
    one, other = (sweep_fast(loaded.net, batch, positions, study).knockout for loaded in (wide, narrow))
    np.testing.assert_allclose(probabilities(other), probabilities(one), rtol=0, atol=2e-2)
