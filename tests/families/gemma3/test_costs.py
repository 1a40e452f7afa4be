"""What a study of Gemma 3 costs: little more than its prompts need, and much less than a pass for each knockout."""

from pathlib import Path

from flax import nnx

from tests.families.contract import Words, make_prompt
from tests.families.gemma3.test_config import FOUR
from tests.knockout.tiny_study import arrays
from xmflow_jax.families.gemma3.modeling import Gemma3
from xmflow_jax.families.registry import GEMMA_3
from xmflow_jax.knockout.costs import executed_operations, model_costs, necessary_operations, usual_operations
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.visibility import CAUSAL_BLOCK


def test_executed_operations_of_the_published_4b() -> None:
    config = GEMMA_3.read_config(Path("config.json"), FOUR)
    net = Network(*nnx.split(nnx.eval_shape(lambda: Gemma3(config, rngs=nnx.Rngs(0)))))
    anatomy = GEMMA_3.anatomy(config)
    prompt = make_prompt(GEMMA_3, 0, Words(6, 24, 8), config=config)
    rows = pathway_study([(pathway, CENTRED) for pathway in STUDY_PATHWAYS], anatomy, 9)
    for pathways, most in ((rows, 1.2), (pathway_study([(Pathway("System", "Image"), CENTRED)], anatomy, 9), 1.2)):
        study = build_study([row.knockout for row in pathways], anatomy)
        batch, positions = arrays([prompt], study)
        placement = place_study(study, positions, batch)
        costs = model_costs(net, prompt.pixels)
        necessary, usual = necessary_operations(costs, placement, batch), usual_operations(costs, batch, len(pathways))
        executed = executed_operations(costs, placement, batch, CAUSAL_BLOCK)
        assert necessary.total <= executed.total <= most * necessary.total
        if pathways is rows:
            assert usual / necessary.total > 20
            # From the question on, or the last position alone: the image is never recomputed.
            assert min(int(begin[0]) for (begin,) in placement.begins if begin is not None) == 6 + 258
