"""Recommendations from rows whose flow is known."""

import pandas as pd
import pytest

from tests.analysis.known_flow import LAYERS, NO_FLOW, PRUNING, TWO_STEPS, rows_of, until
from xmflow_jax.analysis.model_shape import ModelShape, saving
from xmflow_jax.analysis.pruning import find_pruning
from xmflow_jax.analysis.summary import Resampling

FEW = Resampling(resamples=1000)
SHAPE = ModelShape(
    layers=LAYERS, width=24, heads=4, kv_heads=2, head_width=6, mlp_width=40, image_positions=7, text_positions=9
)


@pytest.mark.parametrize("last_read", [0, 3, 10])
def test_the_image_can_go_after_the_layer_that_reads_it(last_read: int) -> None:
    found = find_pruning(rows_of({PRUNING: until(last_read)}), shape=SHAPE, resampling=FEW)
    assert found.layer == last_read + 1
    assert found.layers == tuple(range(last_read + 1, LAYERS))
    assert found.estimated_layer == last_read + 1
    assert found.saving == saving(SHAPE, found.layers)
    (task,) = found.tasks
    assert [cost.layer for cost in task.evidence] == list(range(LAYERS))
    assert [cost.upper < 2 for cost in task.evidence] == [layer > last_read for layer in range(LAYERS)]
    assert task.evidence[last_read].delta_accuracy == pytest.approx(80)


def test_a_model_that_never_reads_the_image_can_do_without() -> None:
    assert find_pruning(rows_of(NO_FLOW), resampling=FEW).layer == 0


def test_a_model_that_reads_it_to_the_end_cannot() -> None:
    found = find_pruning(rows_of({PRUNING: until(LAYERS - 1)}), shape=SHAPE, resampling=FEW)
    assert (found.layer, found.layers, found.estimated_layer, found.saving) == (None, (), None, None)
    assert found.reason.startswith("ChooseAttr: layer 11 alone may cost up to 8")


@pytest.mark.parametrize(
    ("questions", "cost", "layer"), [(148, 2.0, None), (149, 2.0, 4), (299, 1.0, 4), (298, 1.0, None)]
)
def test_few_questions_prove_little(questions: int, cost: float, layer: int | None) -> None:
    """No loss of 149: 1 - 0.05^(1/149) = 1.99 %; the estimate is the same with any number."""
    found = find_pruning(rows_of(TWO_STEPS, questions=questions), cost, resampling=FEW)
    assert found.layer == layer
    assert found.estimated_layer == 4
    if layer is None:
        assert "even if none is lost" in found.reason
        assert found.tasks[0].least_provable > cost


def test_a_later_layer_that_costs_ends_the_proof() -> None:
    rows = rows_of({PRUNING: {0: 0.5, 1: 0.5, 6: 0.1}})
    found = find_pruning(rows, resampling=FEW)
    assert found.layer == 7
    assert find_pruning(rows, cost=20, resampling=FEW).layer == 2


def test_all_tasks_must_hold() -> None:
    one, other = rows_of({PRUNING: until(3)}, task="A"), rows_of({PRUNING: until(7)}, task="B")
    found = find_pruning(pd.concat([one, other]), resampling=FEW)
    assert [(task.task, task.layer) for task in found.tasks] == [("A", 4), ("B", 8)]
    assert found.layer == 8
    never = rows_of({PRUNING: until(LAYERS - 1)}, task="C")
    found = find_pruning(pd.concat([one, other, never]), resampling=FEW)
    assert (found.layer, found.estimated_layer) == (None, None)
    assert found.reason.startswith("C: layer 11")


def test_rows_that_are_not_there() -> None:
    found = find_pruning(rows_of({"Image->Last": {}, "Image->All@single": {}}), resampling=FEW)
    assert found.reason == "the run has no rows of Image->All with windows to-end"
    assert (found.layer, found.tasks, found.style) == (None, (), "")


def test_answers_that_were_never_right_prove_nothing() -> None:
    rows = rows_of(TWO_STEPS).assign(base_score=0.0, knockout_score=0.0)
    found = find_pruning(rows, resampling=FEW)
    assert (found.layer, found.estimated_layer) == (None, None)
    assert "accuracy is 0.0 %" in found.reason


def test_controls_are_no_evidence() -> None:
    rows = pd.concat([rows_of(TWO_STEPS).assign(control=0), rows_of({PRUNING: until(9)}).assign(control=1)])
    assert find_pruning(rows, resampling=FEW).layer == 4


def test_cross_attention_to_end() -> None:
    shape = ModelShape(**{**vars(SHAPE), "cross_attention_layers": (1, 5, 9)})
    found = find_pruning(rows_of(TWO_STEPS), shape=shape, resampling=FEW)
    assert found.cross_attention
    assert (found.style, found.layer, found.layers) == ("to-end", 5, (5, 9))
    assert found.saving == saving(shape, (5, 9))


def test_cross_attention_one_at_a_time() -> None:
    """Bounds share the error: 3 layers take log(0.05 / 3) / log(0.98) = 203 questions without a loss."""
    shape = ModelShape(**{**vars(SHAPE), "cross_attention_layers": (1, 5, 9)})
    flow = {"Image->All@single": {5: 0.5, 2: 0.5}}
    for questions, layers in ((202, ()), (203, (1, 9))):
        found = find_pruning(rows_of(flow, questions=questions), shape=shape, resampling=FEW)
        assert (found.style, found.layer, found.layers) == ("single", None, layers)
        assert (found.estimated_layer, found.estimated_layers) == (None, (1, 9))
    assert found.saving == saving(shape, (1,)) == saving(shape, (9,))
