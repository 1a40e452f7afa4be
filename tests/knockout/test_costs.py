"""Operation counts of the image encoder and the base pass against XLA's own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flax import nnx

from tests.knockout.anatomies import anatomy_of
from tests.knockout.tiny_study import arrays, tiny_prompt
from tests.random_network import random_network
from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, block
from xmflow_jax.knockout.costs import executed_operations, model_costs, necessary_operations, usual_operations
from xmflow_jax.knockout.fast.engine import encode, run_base
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.visibility import CAUSAL_BLOCK

# XLA counts a scan's body once. So every scan here runs once: one block of the tower is needed, one of the decoder's
# two is not the last, and there is one key-value head. Wide enough that matrices outweigh norms, masks and softmax.
CONFIG = LlavaConfig(
    ClipVisionConfig(42, 14, width=96, mlp_width=384, layers=2, heads=1),
    LlamaConfig(50, width=96, mlp_width=256, layers=2, heads=4, kv_heads=1, head_width=24),
    image_token=49,
)
PROMPT = tiny_prompt(0, grid=3, question=9, after=9, before=8)


def network(config: LlavaConfig) -> Network:
    """Of random weights."""
    return random_network(lambda: Llava(config, rngs=nnx.Rngs(0)))


NET, ANATOMY = network(CONFIG), anatomy_of(CONFIG)
COSTS = model_costs(NET, PROMPT.pixels)


@pytest.fixture(name="passes", scope="module")
def fixture_passes() -> tuple[Any, Any]:
    """The compiled image encoder and base pass."""
    batch, _ = arrays([PROMPT], build_study([NOTHING_BLOCKED], ANATOMY))
    encoder = encode.lower(NET, batch.pixels).compile()
    features = encode(NET, batch.pixels)
    first = np.array([len(PROMPT.token_ids) - 1], np.int32)
    base = run_base.lower(NET, batch, features, (first,), rows=(1,)).compile()
    return encoder, base


def test_the_image_encoder(passes: tuple[Any, Any]) -> None:
    counted = passes[0].cost_analysis()["flops"]
    assert COSTS.images <= counted <= 1.15 * COSTS.images
    # The tower's last block, which the projector does not need, is not run.
    whole = network(replace(CONFIG, feature_layer=-1))
    assert counted < 0.75 * model_costs(whole, PROMPT.pixels).images


def test_the_base_pass(passes: tuple[Any, Any]) -> None:
    study = build_study([NOTHING_BLOCKED], ANATOMY)
    batch, positions = arrays([PROMPT], study)
    placement = place_study(study, positions, batch)
    told = executed_operations(COSTS, placement, batch, CAUSAL_BLOCK)
    counted = passes[1].cost_analysis()["flops"]
    assert told.base + told.readout <= counted <= 1.15 * (told.base + told.readout)
    assert told.suffixes == 0


def study_costs(layers: list[list[int]], pathway: Pathway, change: Callable[[Any], Any] = lambda x: x) -> Any:
    study = build_study([block(pathway, blocked) for blocked in layers], ANATOMY)
    batch, positions = arrays([PROMPT], study)
    placement = place_study(study, positions, batch)
    necessary = necessary_operations(COSTS, placement, batch)
    executed = executed_operations(COSTS, placement, batch, CAUSAL_BLOCK)
    return necessary, executed, usual_operations(COSTS, batch, len(layers))


@pytest.mark.parametrize("source", ["Image", "Question", "System"])
@pytest.mark.parametrize("target", ["Image", "Question", "Last", "All"])
@pytest.mark.parametrize("layers", [[[0]], [[1]], [[0], [1], [0, 1]]])
def test_necessary_is_never_more_than_executed(source: str, target: str, layers: list[list[int]]) -> None:
    necessary, executed, usual = study_costs(layers, Pathway(source, target))
    for stage in ("images", "base", "suffixes", "readout"):
        assert 0 <= getattr(necessary, stage) <= getattr(executed, stage)
    assert necessary.total == necessary.images + necessary.base + necessary.suffixes + necessary.readout
    if source == "Question" and target == "Image":  # comes before it: nothing to compute, and the base run is needed
        assert necessary.suffixes == executed.suffixes == 0
    elif len(layers) == 1:
        # One knockout is cheaper than running everything once more, and later blocks are cheaper than earlier ones.
        assert 0 < necessary.suffixes < usual


def test_what_is_blocked_later_costs_less() -> None:
    pathway = Pathway("Image", "Question")
    early, late, both = (study_costs(layers, pathway)[0].suffixes for layers in ([[0]], [[1]], [[0], [1]]))
    assert late < early
    assert both == early + late
    # Two knockouts that block the same in layer 0 share that layer.
    shared = study_costs([[0], [0, 1]], pathway)[0].suffixes
    assert shared == early + late
    assert study_costs([[0], [0]], pathway)[0].suffixes == early
