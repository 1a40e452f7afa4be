"""The proof's model against its PyTorch reference, clean and under knockout, in both engines.

Whole answers are compared in `test_contract_engines.py`, beside those of the other families.
"""

import jax
import numpy as np
import pytest

from tests.families.contract import Words, make_prompt, tiny_model
from tests.families.proof_family import oracle
from tests.families.proof_family.family import PROOF, image_layout, place
from tests.families.proof_family.oracle import LAYERS
from tests.knockout.tiny_study import arrays, run_plain, widest
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, block, zero_output
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.modes import MASK, MODES
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.nn.anatomy import MLP, SELF

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOUND = 1e-5
LAST_TO_LAST = Pathway("Last", "Last")
PATHWAYS = [Pathway("Image", "Question"), Pathway("Question", "Last"), Pathway("Image", "Image"), LAST_TO_LAST]
PATHWAYS += [Pathway("System", "Image")]
# Of two images each, so that there are two blocks, with marks between them.
PROMPTS = [make_prompt(PROOF, 0, Words(), images=2), make_prompt(PROOF, 1, Words(2, 6, 4), images=2)]


def test_place_of_a_prompt_with_an_image() -> None:
    """Two words, a mark, four patches, a mark, one word."""
    config = PROOF.tiny
    layout = image_layout(config, (50, 37))
    image = np.where(layout.tokens < 0, config.image_token, layout.tokens)
    found = place(config, np.array([5, 6, *image, 7], np.int32), (layout,))
    time, row, column = found.axes.tolist()
    assert time == [0, 1, 2, 3, 3, 3, 3, 5, 6]
    assert row == [0, 1, 2, 3, 3, 4, 4, 5, 6]
    assert column == [0, 1, 2, 3, 4, 3, 4, 5, 6]
    assert found.blocks is not None
    assert found.blocks.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert found.delta == -2  # the position behind the prompt, of index 9, has the id 7


def test_every_layer_pathway_and_mode_in_both_engines() -> None:
    """In float64: two programs' roundings in float32 differ by more than the bound where logits are as large as 10."""
    knockouts = [
        NOTHING_BLOCKED,
        *(block(pathway, [layer], mode) for pathway in PATHWAYS for mode in MODES for layer in range(LAYERS)),
        *(block(pathway, range(LAYERS), MASK, [2]) for pathway in PATHWAYS),
        *(zero_output(site, role, [1, 2]) for site in (SELF, MLP) for role in ("Image", "Question", "Last")),
    ]
    loaded = tiny_model(PROOF)
    study = build_study(knockouts, loaded.anatomy)
    batch, positions = arrays(PROMPTS, study)
    with jax.enable_x64(True):
        net, batch = widest(loaded.net), batch._replace(pixels=batch.pixels.astype(np.float64))
        fast = np.asarray(sweep_fast(net, batch, positions, study).knockout)
        plain = np.asarray(run_plain(net, batch, positions, study.switches, count=len(knockouts))).swapaxes(0, 1)
    expected = np.array([[oracle.logits(prompt, knockout) for knockout in knockouts] for prompt in PROMPTS])
    for engine in (fast, plain):
        np.testing.assert_allclose(engine, expected, rtol=0, atol=BOUND)
    effects = np.abs(expected - expected[:, :1]).max(axis=(0, 2))
    by_pathway = effects[1 : 1 + len(PATHWAYS) * len(MODES) * LAYERS].reshape(len(PATHWAYS), len(MODES), LAYERS)
    # Last->Last has one source, whose mean is its own value.
    own_mean = np.zeros(by_pathway.shape[:2], bool)
    own_mean[PATHWAYS.index(LAST_TO_LAST), list(MODES).index("mean")] = True
    assert (by_pathway.max(2)[~own_mean] > 100 * BOUND).all()
    assert by_pathway[own_mean].max() <= BOUND
    assert effects[1 + by_pathway.size :].min() > 100 * BOUND
