"""Gemma 3 against PyTorch: transformers' model in eager float32, clean and under explicit masks."""

from functools import lru_cache
from typing import Final

import numpy as np
import pytest

from tests.families.contract import Words, make_prompt
from tests.families.parity import probabilities
from tests.families.published_parity import (
    BOUND,
    check_answers,
    check_bfloat16,
    check_generate,
    check_pathways,
    check_states,
    load_both,
)
from tests.families.torch_reference import Published
from tests.families.variants import GEMMA_3_WIDE
from tests.knockout.tiny_study import TinyPrompt, arrays, run_plain
from xmflow_jax.data import roles
from xmflow_jax.families.registry import GEMMA_3
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, block
from xmflow_jax.knockout.fast import reach
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, SINGLE
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# The one's patches are pooled; the other's images are longer than its window.
CONFIGS: Final = {"pooled": GEMMA_3.tiny, "wide": GEMMA_3_WIDE}
each_model = pytest.mark.parametrize("name", CONFIGS)
PATHWAYS: Final = [
    *(Pathway("Image", target) for target in ("Question", "Last", "Image")),
    *(Pathway("Question", target) for target in ("Last", "Question")),
    Pathway("System", "Image"),
    Pathway("Last", "Last"),
]


def prompts(name: str, images: int = 1) -> list[TinyPrompt]:
    words = (Words(3, 5, 2), Words(2, 8, 3))
    return [make_prompt(GEMMA_3, seed, own, images, CONFIGS[name]) for seed, own in enumerate(words)]


@lru_cache
def both(name: str, dtype: str = "float32") -> tuple[LoadedModel, Published]:
    def token_types(prompt: np.ndarray, generated: int) -> np.ndarray:
        return np.append(prompt == CONFIGS[name].image_token, np.zeros(generated, bool)).astype(int)

    return load_both(GEMMA_3, CONFIGS[name], "Gemma3ForConditionalGeneration", token_types, dtype)


@each_model
@pytest.mark.parametrize("images", [1, 2])
def test_every_hidden_state_and_logit(name: str, images: int) -> None:
    check_states(*both(name), prompts(name, images)[0])


def test_every_pathway_in_every_layer_in_both_engines() -> None:
    effects = check_pathways(*both("wide"), prompts("wide"), PATHWAYS)
    assert (effects[:, -1] > 100 * BOUND).all()
    # What the last layer's rows other than the answer's see reaches no answer.
    others = [place for place, pathway in enumerate(PATHWAYS) if pathway.target != "Last"]
    np.testing.assert_array_equal(effects[others, -2], 0)
    # The image stands too far before the last position for a layer that slides to connect them.
    sliding = np.array(GEMMA_3_WIDE.text.sliding)
    to_last = effects[PATHWAYS.index(Pathway("Image", "Last")), :-1]
    np.testing.assert_array_equal(to_last > 100 * BOUND, ~sliding)
    np.testing.assert_array_equal(to_last[sliding], 0)


@pytest.mark.slow
def test_whole_answers_under_knockout() -> None:
    loaded, published = both("wide")
    styled = [(Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Last"), SINGLE)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 2)]
    check_answers(loaded, published, prompts("wide"), knockouts)


@each_model
def test_the_reference_is_what_generate_gives(name: str) -> None:
    check_generate(both(name)[1], prompts(name)[1])


@pytest.mark.slow
def test_bfloat16() -> None:
    check_bfloat16(both("wide")[0], both("wide", "bfloat16")[0], prompts("wide"))


def test_a_target_within_an_image_recomputes_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """One position of the image loses the system's words; the next layer hands that to all of the image, so that an
    engine that starts at the target is wrong."""
    loaded, published = both("wide")
    given = prompts("wide")
    target, first = 8, 4  # within the image, and the image's own first, behind three words and a mark
    for prompt in given:
        mask = np.zeros(len(prompt.token_ids), bool)
        mask[np.flatnonzero(prompt.roles[roles.IMAGE])[target - first]] = True
        object.__setattr__(prompt, "roles", {**prompt.roles, roles.IMAGE_PAD: mask})
    knockout = block(Pathway("All", "Image Pad"), [0])
    study = build_study([knockout], loaded.anatomy)
    batch, positions = arrays(given, study)

    def rows_that_change(layer: int) -> list[int]:
        """Of the first prompt's input of a layer."""
        states = [
            published.run(given[0], one, output_hidden_states=True).hidden_states[layer][0].numpy()
            for one in (NOTHING_BLOCKED, knockout)
        ]
        return np.flatnonzero(np.abs(states[0] - states[1]).max(-1) > 1e-4).tolist()

    assert rows_that_change(1) == [target]
    assert rows_that_change(2)[0] == first
    expected = probabilities([published.logits(prompt, knockout) for prompt in given])
    plain = run_plain(loaded.net, batch, positions, study.switches, count=1)[0]
    fast = sweep_fast(loaded.net, batch, positions, study).knockout[:, 0]
    for engine in (plain, fast):
        np.testing.assert_allclose(probabilities(engine), expected, rtol=0, atol=BOUND)
    causal = reach.first_changed
    monkeypatch.setattr(reach, "first_changed", lambda targets, read, blocks: causal(targets, read, None))
    wrong = sweep_fast(loaded.net, batch, positions, study).knockout[:, 0]
    assert np.abs(probabilities(wrong) - expected).max() > 100 * BOUND
