"""PaliGemma 1 and 2 against PyTorch: transformers' model in eager float32, clean and under explicit masks."""

from functools import lru_cache
from typing import Final

import numpy as np
import pytest

from tests.families.contract import Words, make_prompt
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
from tests.families.variants import PALIGEMMA_2
from xmflow_jax.families.registry import PALIGEMMA
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, FROM_START, SINGLE, TO_END
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CONFIGS: Final = {"gemma": PALIGEMMA.tiny, "gemma2": PALIGEMMA_2}
each_decoder = pytest.mark.parametrize("decoder", CONFIGS)
first_slower = pytest.mark.parametrize("decoder", [pytest.param("gemma", marks=pytest.mark.slow), "gemma2"])
PATHWAYS: Final = [
    *(Pathway("Image", target) for target in ("Question", "Last", "Image")),
    *(Pathway("Question", target) for target in ("Last", "Image", "Question")),
    *(Pathway("Last", target) for target in ("Last", "Question")),
]
PROMPTS: Final = [make_prompt(PALIGEMMA, 0, Words(0, 5, 2)), make_prompt(PALIGEMMA, 1, Words(0, 8, 3))]


def token_types(prompt: np.ndarray, generated: int) -> np.ndarray:
    """The prompt is the prefix; what is generated is not."""
    return np.append(np.zeros(len(prompt), int), np.ones(generated, int))


@lru_cache
def both(decoder: str, dtype: str = "float32") -> tuple[LoadedModel, Published]:
    return load_both(PALIGEMMA, CONFIGS[decoder], "PaliGemmaForConditionalGeneration", token_types, dtype)


@each_decoder
def test_every_hidden_state_and_logit(decoder: str) -> None:
    check_states(*both(decoder), PROMPTS[0])


@first_slower
def test_every_pathway_in_every_layer_in_both_engines(decoder: str) -> None:
    effects = check_pathways(*both(decoder), PROMPTS, PATHWAYS)
    # What the last layer's rows other than the answer's see reaches no answer.
    reaches = np.ones_like(effects, bool)
    reaches[:, -2] = [pathway.target == "Last" for pathway in PATHWAYS]
    np.testing.assert_array_equal(effects > 100 * BOUND, reaches)
    np.testing.assert_array_equal(effects[~reaches], 0)


@first_slower
def test_whole_answers_under_knockout(decoder: str) -> None:
    loaded, published = both(decoder)
    styled = [(Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Image"), TO_END)]
    styled += [(Pathway("Image", "Last"), FROM_START), (Pathway("Last", "Last"), SINGLE)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 2)]
    check_answers(loaded, published, PROMPTS, knockouts)


@each_decoder
def test_the_reference_is_what_generate_gives(decoder: str) -> None:
    check_generate(both(decoder)[1], PROMPTS[1])


@pytest.mark.slow
@each_decoder
def test_bfloat16(decoder: str) -> None:
    check_bfloat16(both(decoder)[0], both(decoder, "bfloat16")[0], PROMPTS)
