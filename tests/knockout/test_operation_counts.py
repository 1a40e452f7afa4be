"""Operation counts: by hand, against XLA's own, and the ratios that the design states for real sizes."""

import numpy as np
import pytest

from experiments.benchmarks.workload import PRESETS, random_question, study_rows
from tests.knockout.anatomies import anatomy_of
from tests.knockout.tiny_study import VOCABULARY, arrays, tiny_llava, tiny_prompt
from xmflow_jax.knockout.actions import block
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.costs import (
    executed_operations,
    necessary_operations,
    rows_operations,
    usual_operations,
)
from xmflow_jax.knockout.fast.engine import encode, run_base, run_suffixes
from xmflow_jax.knockout.fast.placement import build_study, place_study
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.nn.attention import CAUSAL_BLOCK
from xmflow_jax.nn.llama import LlamaConfig


def test_one_row_by_hand() -> None:
    config = LlamaConfig(10, width=2, mlp_width=3, layers=1, heads=2, kv_heads=1, head_width=5)
    # q and o: 2 x 2 x 10 each; k and v: 2 x 2 x 5 each; gate, up, down: 2 x 2 x 3 each; 4 sources x 2 heads x 5 x 4.
    assert rows_operations(config, 3, 4) == 40 + 40 + 20 + 20 + 36 + 160


@pytest.mark.parametrize(("name", "low", "high"), [("cpu-576", 38, 48), ("cpu-2880", 68, 80), ("llava-1.5-7b", 45, 56)])
def test_ratios_at_real_sizes(name: str, low: float, high: float) -> None:
    """The design: about 40 and 70 times fewer operations; 7B: 1,660 TFLOP the usual way and 33 necessary."""
    preset = PRESETS[name]
    text = preset.model.text
    study = build_study([row.knockout for row in study_rows(preset)], text.layers, text.heads)
    question = random_question(preset, 0)
    length = np.array([len(question.token_ids)])
    padded = -(-len(question.token_ids) // 16) * 16
    positions = build_positions([question.roles], study.actions, padded)
    placement = place_study(study, positions, length, padded)
    necessary = necessary_operations(preset.model, placement, length, preset.images).total
    usual = usual_operations(preset.model, length, preset.images, len(study.knockouts))
    assert low <= usual / necessary <= high
    executed = executed_operations(preset.model, placement, 1, padded, preset.images, CAUSAL_BLOCK).total
    assert necessary <= executed <= 1.2 * necessary
    if name == "llava-1.5-7b":
        assert 1.5e15 <= usual <= 1.8e15
        assert 2.9e13 <= necessary <= 3.8e13


def test_the_suffix_pass_against_xlas_own_count() -> None:
    """Of a model in which every scan runs once (XLA counts a scan's body once): two blocks, one key-value head."""
    config, net = tiny_llava(layers=2, heads=8, kv_heads=1, head_width=32, grid=3)
    prompt = tiny_prompt(0, grid=3, question=9, after=9, before=8)
    study = build_study([block(Pathway("Image", "Question"), [0])], anatomy_of(config))
    batch, positions = arrays([prompt], study)
    placement = place_study(study, positions, batch)
    features = encode(net, batch.pixels)
    base = run_base(net, batch, features, placement.first, rows=placement.rows)
    (group,) = placement.groups
    suffix = run_suffixes.lower(net, base, group.trie, study.switches, positions, placement.starts[0], batch.length,
        rows=group.rows, prefix=group.prefix,
    ).compile()  # fmt: skip
    told = executed_operations(config, placement, 1, batch.tokens.shape[1], 1, CAUSAL_BLOCK)
    counted = suffix.cost_analysis()["flops"]
    ours = told.suffixes + 2 * config.text.width * VOCABULARY
    # XLA also counts norms, rotations, masks and the softmax.
    assert ours <= counted <= 1.25 * ours
