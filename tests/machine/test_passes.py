"""A study spread over the devices of a mesh gives what one device gives, and exchanges no more than it must."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh

from tests.knockout.anatomies import anatomy_of, partitioning_of
from tests.knockout.tiny_cross_attention import tiny_cross_attention, tiny_text_prompt
from tests.knockout.tiny_study import TinyPrompt, tiny_llava, tiny_prompt
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.actions import block
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.batch_answers import Answered, Request, answer_batch
from xmflow_jax.knockout.controls import question_key
from xmflow_jax.knockout.fast.engine import encode, run_base, run_suffixes
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END
from xmflow_jax.machine.partitioning import CONFIGURATIONS, DATA, MODEL, kept_whole, parameter_shardings
from xmflow_jax.nn.anatomy import CROSS, SELF
from xmflow_jax.nn.network import Network
from xmflow_jax.weights.load import shapes

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LAYERS, HEADS = 3, 8
PATHWAYS = [(Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Last"), CENTRED)]
PATHWAYS += [(Pathway("Image", "All"), TO_END)]
COLLECTIVES = re.compile(r"= \S+ (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\(")


def device_mesh(side: int, model: int, axis: str = DATA) -> Mesh:
    grid = np.array(jax.devices()[: side * model]).reshape(side, model)
    return Mesh(grid, (axis, MODEL), axis_types=(AxisType.Auto,) * 2)


def tiny(cross: bool) -> tuple[Any, Network]:
    return tiny_cross_attention(LAYERS, heads=HEADS) if cross else tiny_llava(LAYERS, heads=HEADS, kv_heads=HEADS)


def spread(config: Any, net: Network, mesh: Mesh) -> Network:
    params = net.params
    shardings = parameter_shardings(partitioning_of(config), shapes(params), mesh)
    leaves = nnx.to_flat_state(params)
    placed = [(path, leaf.replace(jax.device_put(leaf.get_value(), shardings[path]))) for path, leaf in leaves]
    return Network(net.graphdef, nnx.from_flat_state(placed))


def prompts_of(cross: bool, number: int) -> Sequence[TinyPrompt]:
    make = tiny_text_prompt if cross else tiny_prompt
    return [make(seed, question=4 + seed % 3) for seed in range(number)]


def answered(
    cross: bool, mesh: Mesh | None, number: int, full_size: int = 0, pathways: Sequence[Any] = PATHWAYS
) -> Answered:
    config, net = tiny(cross)
    rows = pathway_study(pathways, anatomy_of(config), 2, controls=int(len(pathways) > 1))
    study = build_study([row.knockout for row in rows], anatomy_of(config))
    keys = [question_key("task", str(place)) for place in range(number)]

    def run(net: Network) -> Answered:
        everyone = lambda tokens, logits: np.ones(len(tokens), bool)  # noqa: E731
        asked = Request(study, (3,), 4)
        return answer_batch(net, prompts_of(cross, number), asked, everyone, full_size=full_size, keys=keys)

    if mesh is None:
        return run(net)
    with jax.set_mesh(mesh):
        return run(spread(config, net, mesh))


@lru_cache
def alone(cross: bool, number: int) -> Answered:
    """On one device."""
    return answered(cross, None, number)


def check_equal(found: Answered, expected: Answered) -> None:
    assert found.measured is not None
    assert expected.measured is not None
    assert found.tokens is not None
    np.testing.assert_allclose(found.measured.knockout_prob, expected.measured.knockout_prob, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.measured.base_prob, expected.measured.base_prob, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.measured.knockout_token, expected.measured.knockout_token)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert found.impossible == expected.impossible
    # The knockouts do something, and some answers depart from the base run's.
    assert np.ptp(expected.measured.knockout_prob, axis=1).min() > 1e-3
    assert expected.tokens is not None
    assert len({tuple(answer) for answer in expected.tokens[0].tolist()}) > 1


MESHES = {
    "data=8": (device_mesh(8, 1), 8),
    "model=8": (device_mesh(1, 8), 8),
    "data=4,model=2": (device_mesh(4, 2), 8),
    "one question over data=8": (device_mesh(8, 1, CONFIGURATIONS), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("cross", [False, True], ids=["llava", "cross-attention"])
@pytest.mark.parametrize("name", MESHES)
def test_equal_to_one_device(name: str, cross: bool) -> None:
    mesh, number = MESHES[name]
    check_equal(answered(cross, mesh, number), alone(cross, number))


@pytest.mark.slow
def test_two_by_two_devices_under_one_pathway() -> None:
    """The others take a minute each to compile."""
    few = PATHWAYS[:1]
    check_equal(answered(False, device_mesh(2, 2), 4, pathways=few), answered(False, None, 4, pathways=few))


@pytest.mark.slow
def test_a_batch_that_is_filled_up() -> None:
    """A prime number of questions over four devices: the fillers are nobody's."""
    found = answered(False, device_mesh(4, 1), 7, full_size=8)
    assert len(found.selected) == 7
    check_equal(found, alone(False, 7))


def collectives(compiled: Any) -> Counter[str]:
    return Counter(COLLECTIVES.findall(compiled.as_text()))


def programs(cross: bool, mesh: Mesh, number: int) -> dict[str, Counter[str]]:
    """The exchanges between devices in each pass's compiled text; a loop's body counts once."""
    config, net = tiny(cross)
    study = build_study([block(PATHWAYS[0][0], [1, 2], site=CROSS if cross else SELF)], anatomy_of(config))
    prompts = prompts_of(cross, number)
    batch = build_batch(prompts)
    positions = build_positions(prompts, study.actions, batch.tokens.shape[1])
    placement = place_study(study, positions, batch)
    (group,), (start,) = placement.groups, placement.starts
    with jax.set_mesh(mesh):
        net = spread(config, net, mesh)
        features = encode(net, batch.pixels)
        given = (net, batch, features, placement.first)
        base = run_base(*given, rows=placement.rows)
        suffixes = Given(base, batch, study.switches, positions), group.schedule, start
        suffix = run_suffixes.lower(net, *suffixes, shape=group.shape)
        return {
            "encode": collectives(encode.lower(net, batch.pixels).compile()),
            "base": collectives(run_base.lower(*given, rows=placement.rows).compile()),
            "suffix": collectives(suffix.compile()),
        }


@pytest.mark.parametrize("cross", [False, True], ids=["llava", "cross-attention"])
def test_devices_with_questions_of_their_own_exchange_nothing(cross: bool) -> None:
    assert programs(cross, device_mesh(8, 1), 8) == {"encode": Counter(), "base": Counter(), "suffix": Counter()}


@pytest.mark.parametrize("cross", [False, True], ids=["llava", "cross-attention"])
def test_a_spread_model_sums_once_behind_each_of_its_parts(cross: bool) -> None:
    """Attention, cross-attention, MLP and the embedding end in a sum over devices, and nothing else is exchanged."""
    found = programs(cross, device_mesh(1, 2), 2)
    parts = 3 if cross else 2
    # The tower's blocks are one loop; LLaVA's projector is split like an MLP.
    assert found["encode"] == Counter({"all-reduce": 2 + (not cross)})
    # All blocks but the last are one loop; the last one runs over the answers' rows. Words are looked up where
    # they are.
    assert found["base"] == Counter({"all-reduce": 2 * parts + 1})
    assert found["suffix"] == Counter({"all-reduce": 2 * parts})


def test_what_does_not_divide_is_kept_whole_and_told() -> None:
    config, net = tiny_llava(LAYERS, heads=6, kv_heads=3)
    leaves, mesh, partitioning = shapes(net.params), device_mesh(1, 2), partitioning_of(config)
    assert kept_whole(partitioning, leaves, mesh) == ["3 key-value heads of the decoder"]
    placed = {path[-2:]: sharding.spec for path, sharding in parameter_shardings(partitioning, leaves, mesh).items()}
    assert MODEL in tuple(placed["q_proj", "kernel"])
    decoder = {path: one for path, one in parameter_shardings(partitioning, leaves, mesh).items() if "k_proj" in path}
    of_tower = [path[0] == "vision_tower" for path in decoder]
    assert [MODEL in tuple(one.spec) for one in decoder.values()] == of_tower
    assert kept_whole(partitioning, leaves, device_mesh(1, 8)) != []
