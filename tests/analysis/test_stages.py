"""Stages of rows whose flow is known."""

import numpy as np
import pandas as pd
import pytest

from tests.analysis.known_flow import (
    ANSWER,
    GENERAL,
    NO_FLOW,
    SPECIFIC,
    STRAIGHT_TO_LAST,
    THREE_STAGES,
    TWO_INJECTIONS,
    TWO_STEPS,
    Flow,
    rows_of,
)
from xmflow_jax.analysis.stages import STAGES, TaskStages, centres, find_stages
from xmflow_jax.analysis.summary import Resampling, summarize

FEW = Resampling(resamples=1000)


def stages_of(rows: pd.DataFrame, resampling: Resampling = FEW) -> TaskStages:
    (found,) = find_stages(rows, summarize(rows, resampling=resampling), resampling)
    assert tuple(stage.name for stage in found.stages) == tuple(STAGES)
    return found


def test_three_stages_are_found_in_their_layers_and_order() -> None:
    found = stages_of(rows_of(THREE_STAGES))
    assert [stage.supported for stage in found.stages] == [True] * 3
    # Half of the peak and more: layer 10 of the answer's curve has an eighth of it.
    assert [stage.layers for stage in found.stages] == [((1, 2),), ((5, 5),), ((8, 9),)]
    assert [stage.peak_layer for stage in found.stages] == [1, 5, 9]
    assert [(order.first, order.second, order.support) for order in found.orders] == [
        ("general injection", "specific injection", 1.0),
        ("general injection", "answer aggregation", 1.0),
        ("specific injection", "answer aggregation", 1.0),
    ]
    assert found.together == 1.0
    general, specific, answer = found.stages
    assert general.centre is not None
    assert 1 < general.centre < 1.5
    assert specific.centre == specific.centre_low == specific.centre_high == 5.0
    assert answer.reason == ""
    assert answer.n == 160
    assert answer.peak_effect == pytest.approx(0.8 * 95, abs=2)


def test_numbers_are_the_summarys() -> None:
    rows = rows_of(THREE_STAGES)
    table = summarize(rows, resampling=FEW)
    row = table[(table["pathway"] == ANSWER) & (table["layer"] == 9)].iloc[0]
    answer = find_stages(rows, table, FEW)[0].stages[2]
    assert (answer.peak_effect, answer.peak_low, answer.peak_high, answer.p_holm) == (
        -row["relative_change"],
        -row["relative_change_high"],
        -row["relative_change_low"],
        row["relative_change_p_holm"],
    )


def test_two_injections_are_two_ranges() -> None:
    found = stages_of(rows_of(TWO_INJECTIONS))
    assert [stage.layers for stage in found.stages] == [((0, 0), (6, 6)), ((6, 6),), ((9, 9),)]


def test_a_model_without_general_injection() -> None:
    found = stages_of(rows_of(TWO_STEPS))
    assert [stage.supported for stage in found.stages] == [False, True, True]
    assert [stage.layers for stage in found.stages] == [(), ((3, 3),), ((8, 8),)]
    assert "lowers the answer's probability by 5 %" in found.stages[0].reason
    assert [(order.first, order.second) for order in found.orders] == [("specific injection", "answer aggregation")]


@pytest.mark.parametrize("flow", [NO_FLOW, STRAIGHT_TO_LAST])
def test_no_flow_through_the_question_is_no_stage(flow: Flow) -> None:
    found = stages_of(rows_of(flow))
    assert [stage.supported for stage in found.stages] == [False] * 3
    assert all(GENERAL in stage.reason or stage.name != "general injection" for stage in found.stages)
    assert all(stage.reason for stage in found.stages)
    assert (found.orders, found.together) == ((), None)


def test_few_questions_are_told_from_chance_by_nobody() -> None:
    """Five questions, four of them lost: p is 1/8 at best, before any correction."""
    found = stages_of(rows_of({**NO_FLOW, ANSWER: {8: 0.8}}, questions=5))
    answer = found.stages[2]
    assert not answer.supported
    assert "told from chance by 5 questions" in answer.reason
    assert answer.peak_layer == 8


def test_what_was_not_measured_is_said() -> None:
    rows = rows_of({ANSWER: {8: 0.8}, f"{SPECIFIC}@from-start": {5: 0.8}})
    found = stages_of(rows)
    assert [stage.supported for stage in found.stages] == [False, False, True]
    assert found.stages[0].reason == f"the run has no rows of {GENERAL} with windows centred or single"
    assert SPECIFIC in found.stages[1].reason
    assert (found.orders, found.together) == ((), None)


def test_relative_changes_that_are_undefined_are_said() -> None:
    rows = rows_of({ANSWER: {8: 0.8}}).assign(relative_change=np.nan)
    assert stages_of(rows).stages[2].reason == f"no question has a relative change for {ANSWER}"


def test_stages_of_one_layer_are_in_no_order() -> None:
    found = stages_of(rows_of({GENERAL: {5: 0.6}, SPECIFIC: {5: 0.6}, ANSWER: {5: 0.6}}))
    assert all(stage.supported for stage in found.stages)
    assert [order.support for order in found.orders] == [0.0] * 3
    assert found.together == 0.0


def test_an_order_that_the_questions_do_not_decide() -> None:
    """Both curves lose about half in layers 4 and 6; which centre is lower is a coin's throw."""
    found = stages_of(rows_of({SPECIFIC: {4: 0.5, 6: 0.5}, ANSWER: {4: 0.5, 6: 0.5}}, questions=60))
    (order,) = found.orders
    assert 0.05 < order.support < 0.95


def test_the_other_way_round() -> None:
    found = stages_of(rows_of({SPECIFIC: {9: 0.5}, ANSWER: {2: 0.5}}))
    assert found.orders[0].support == 0.0


def test_centred_rows_are_preferred_and_controls_left_out() -> None:
    rows = rows_of({ANSWER: {8: 0.8}, f"{ANSWER}@single": {2: 0.8}})
    control = rows_of({ANSWER: {4: 0.8}}).assign(control=1, control_overlap=0.0)
    found = stages_of(pd.concat([rows.assign(control=0), control]))
    assert found.stages[2].layers == ((8, 8),)
    assert found.stages[2].window == 1
    single = stages_of(rows[rows["style"] == "single"].assign(window=5)).stages[2]
    assert (single.layers, single.window) == (((2, 2),), 1)
    wide = stages_of(rows.assign(window=5)).stages
    assert [stage.window for stage in wide] == [None, None, 5]


def test_centres_by_hand() -> None:
    layers = np.array([0.0, 1.0, 2.0, 5.0])
    effects = np.array(
        [
            [4.0, 3.0, 1.0, 0.5],  # (2 * 0 + 1 * 1) / 3: half of the peak is taken off
            [-9.0, 2.0, -3.0, 2.0],
            [-1.0, -2.0, 0.0, -4.0],
            [np.nan, 0.0, 7.0, np.nan],
        ]
    )
    np.testing.assert_allclose(centres(effects, layers), [1 / 3, 3.0, np.nan, 2.0])


def test_the_same_seed_gives_the_same_stages() -> None:
    rows = rows_of(THREE_STAGES, questions=40)
    assert stages_of(rows) == stages_of(rows.sample(frac=1, random_state=0))
    assert stages_of(rows) != stages_of(rows, Resampling(resamples=1000, seed=1))
