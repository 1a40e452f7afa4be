"""Operation counts: by hand, against XLA's own, and the ratios that the design states for real sizes."""

import numpy as np
import pytest
from flax import nnx

from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import random_question, study_rows
from tests.knockout.anatomies import anatomy_of
from tests.knockout.tiny_study import VOCABULARY, arrays, tiny_llava, tiny_prompt
from xmflow_jax.data.batch import build_batch
from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.knockout.actions import block
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.costs import executed_operations, model_costs, necessary_operations, usual_operations
from xmflow_jax.knockout.fast.engine import encode, run_base, run_suffixes
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.visibility import CAUSAL_BLOCK


def abstract(config: LlavaConfig) -> Network:
    """Shapes in place of parameters."""
    return Network(*nnx.split(nnx.eval_shape(lambda: Llava(config, rngs=nnx.Rngs(0)))))


def test_one_row_by_hand() -> None:
    vision = ClipVisionConfig(14, 14, width=4, mlp_width=4, layers=1, heads=1)
    text = LlamaConfig(10, width=2, mlp_width=3, layers=1, heads=2, kv_heads=1, head_width=6)
    costs = model_costs(abstract(LlavaConfig(vision, text, image_token=9)), np.zeros((1, 14, 14, 3), np.float32))
    ((block,),) = [stack.blocks for stack in costs.stacks]
    # q and o: 2 x 2 x 12 each; k and v: 2 x 2 x 6 each; gate, up, down: 2 x 2 x 3 each; 4 sources x 2 heads x 6 x 4.
    assert block.rows(np.array([4]), outside=0) == 48 + 48 + 24 + 24 + 36 + 192


@pytest.mark.parametrize(("name", "low", "high"), [("cpu-576", 38, 48), ("cpu-2880", 68, 80), ("llava-1.5-7b", 45, 56)])
def test_ratios_at_real_sizes(name: str, low: float, high: float) -> None:
    """The design: about 40 and 70 times fewer operations; 7B: 1,660 TFLOP the usual way and 33 necessary."""
    preset = PRESETS[name]
    study = build_study([row.knockout for row in study_rows(preset)], LLAVA.anatomy(preset.model))
    question = random_question(preset, 0)
    batch = build_batch([question])
    positions = build_positions([question], study.actions, batch.tokens.shape[1])
    placement = place_study(study, positions, batch)
    costs = model_costs(abstract(preset.model), question.pixels)
    necessary = necessary_operations(costs, placement, batch).total
    usual = usual_operations(costs, batch, len(study.knockouts))
    assert low <= usual / necessary <= high
    executed = executed_operations(costs, placement, batch, CAUSAL_BLOCK).total
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
    given = Given(base, batch, study.switches, positions)
    suffix = run_suffixes.lower(net, given, group.schedule, placement.starts[0], shape=group.shape).compile()
    told = executed_operations(model_costs(net, prompt.pixels), placement, batch, CAUSAL_BLOCK)
    counted = suffix.cost_analysis()["flops"]
    ours = told.suffixes + 2 * config.text.width * VOCABULARY
    # XLA also counts norms, rotations, masks and the softmax.
    assert ours <= counted <= 1.25 * ours
