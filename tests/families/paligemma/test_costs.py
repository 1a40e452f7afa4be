"""What a study of PaliGemma costs: no less than its prompts need, and little more."""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from tests.families.contract import Words, make_prompt
from tests.families.paligemma.test_config import FIRST, SECOND
from tests.knockout.tiny_study import arrays
from xmflow_jax.families.paligemma.modeling import PaliGemma
from xmflow_jax.families.registry import PALIGEMMA
from xmflow_jax.knockout.costs import executed_operations, model_costs, necessary_operations, usual_operations
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.visibility import CAUSAL_BLOCK

# Of a prompt with 256 or 1,024 image positions: how many times fewer operations than one full pass for each knockout.
PUBLISHED = {"paligemma-3b-224": (FIRST, 256, 1.5), "paligemma2-3b-448": (SECOND, 1024, 1.5)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_executed_operations_at_published_sizes(name: str) -> None:
    file, patches, least = PUBLISHED[name]
    config = PALIGEMMA.read_config(Path("config.json"), file)
    net = Network(*nnx.split(nnx.eval_shape(lambda: PaliGemma(config, rngs=nnx.Rngs(0)))))
    anatomy, layout = PALIGEMMA.anatomy(config), PALIGEMMA.image_layout(config, (640, 480))
    assert layout.positions == patches
    prompt = make_prompt(PALIGEMMA, 0, Words(0, 12, 1), config=config)
    pathways = [*STUDY_PATHWAYS, Pathway("Question", "Image")]
    rows = pathway_study([(pathway, CENTRED) for pathway in pathways], anatomy, 5)
    study = build_study([row.knockout for row in rows], anatomy)
    batch, positions = arrays([prompt], study)
    placement = place_study(study, positions, batch)
    # Every pathway changes the whole prompt behind its window's first layer.
    assert [np.asarray(begin).tolist() for (begin,) in placement.begins] == [[0]] * len(placement.groups)
    costs = model_costs(net, prompt.pixels)
    necessary, usual = necessary_operations(costs, placement, batch), usual_operations(costs, batch, len(rows))
    executed = executed_operations(costs, placement, batch, CAUSAL_BLOCK)
    assert necessary.total <= executed.total <= 1.2 * necessary.total
    assert usual / necessary.total > least
