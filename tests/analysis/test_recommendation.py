"""What is written to `recommendation.json`, and the sentences, for rows whose flow is known."""

import json
import math

import pandas as pd
import pytest

from tests.analysis.known_flow import (
    ANSWER,
    GENERAL,
    LAYERS,
    NO_FLOW,
    SPECIFIC,
    STRAIGHT,
    STRAIGHT_TO_LAST,
    THREE_STAGES,
    TWO_INJECTIONS,
    TWO_STEPS,
    Flow,
    rows_of,
)
from xmflow_jax.analysis.critical import critical_layers, layer_ranges, ranges_text
from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.analysis.recommendation import Recommendation, recommend, recommendation_json
from xmflow_jax.analysis.summary import Resampling, summarize
from xmflow_jax.run.folder import ROW_SCHEMA

FEW = Resampling(resamples=1000)
SHAPE = ModelShape(
    layers=LAYERS, width=24, heads=4, kv_heads=2, head_width=6, mlp_width=40, image_positions=7, text_positions=9
)


def recommended(rows: pd.DataFrame, shape: ModelShape | None = SHAPE) -> Recommendation:
    return recommend(rows, summarize(rows, resampling=FEW), shape, resampling=FEW)


@pytest.fixture(name="two_steps", scope="module")
def fixture_two_steps() -> Recommendation:
    """Of a flow that several tests look at; each recommendation takes seconds."""
    return recommended(rows_of(TWO_STEPS))


@pytest.mark.parametrize(
    ("flow", "critical"),
    [
        (TWO_STEPS, {SPECIFIC: (3,), ANSWER: (8,)}),
        (TWO_INJECTIONS, {GENERAL: (0, 6), SPECIFIC: (6,), ANSWER: (9,)}),
        (STRAIGHT_TO_LAST, {STRAIGHT: (7,)}),
        (NO_FLOW, {}),
    ],
)
def test_critical_layers_are_those_written_down(flow: Flow, critical: dict[str, tuple[int, ...]]) -> None:
    found = {curve.pathway: curve.layers for curve in recommended(rows_of(flow)).critical if curve.style == "centred"}
    assert found == {GENERAL: (), SPECIFIC: (), STRAIGHT: (), ANSWER: ()} | critical


def test_the_peak_of_a_curve() -> None:
    table = summarize(rows_of(THREE_STAGES), resampling=FEW)
    (curve,) = (curve for curve in critical_layers(table) if curve.pathway == ANSWER)
    row = table[(table["pathway"] == ANSWER) & (table["layer"] == 9)].iloc[0]
    assert curve.layers == (8, 9, 10)
    assert (curve.peak_layer, curve.delta_accuracy, curve.n) == (9, 80.0, 160)
    assert (curve.low, curve.high) == (row["delta_accuracy_low"], row["delta_accuracy_high"])


def test_the_sentences(two_steps: Recommendation) -> None:
    lines = findings(two_steps).lines()
    assert lines[0].startswith(
        "Critical layers (accuracy falls by more than 5 points, 95 % interval above zero): "
        "Question->Last in layer 8 (75.0 points, "
    )
    assert f"{SPECIFIC} in layer 3 (70.0 points" in lines[0]
    assert lines[0].endswith(f"n = 160); none of {GENERAL}, {STRAIGHT}.")
    assert lines[1].startswith(f"Stages: general injection is not supported (no layer's knockout of {GENERAL} lowers")
    assert lines[1].endswith(
        "specific injection in layer 3 (centre 3.0, 3.0 to 3.0); "
        "answer aggregation in layer 8 (centre 8.0, 8.0 to 8.0); "
        "in this order in 100.0 % of resamples."
    )
    assert lines[2].startswith(
        "Pruning: from layer 4 on all attention to the image can go at a cost below 2 points (95 % confidence); "
        "this saves "
    )
    assert lines[2].endswith(
        "% of the MLP operations and 29 % of the key-value memory."
    )  # 8/12 layers x 7/16 positions


def test_the_width_of_windows_is_told() -> None:
    stages = findings(recommended(rows_of(TWO_STEPS).assign(window=3))).stages
    assert stages.endswith("% of resamples. Each layer stands for the 3 blocked around it.")


def test_sentences_of_no_flow() -> None:
    critical, stages, pruning, power = findings(recommended(rows_of(NO_FLOW), None)).lines()
    assert critical.endswith("nothing is critical; accuracy falls nowhere (n = 160).")
    assert stages.startswith("Stages: the data support none; general injection is not supported (")
    assert stages.count("not supported") == 3
    assert pruning == (
        "Pruning: all attention to the image can go altogether, from layer 0 on, "
        "at a cost below 2 points (95 % confidence)."
    )
    assert power == (
        "Power: of 160 questions on 160 images answers changed on 0 alone; from fewer than 10 images nobody can tell "
        "how small a loss of accuracy they could show (95 % confidence, 80 % power)."
    )


def test_sentences_of_few_questions() -> None:
    critical, stages, pruning, _ = findings(recommended(rows_of(TWO_STEPS, questions=8), None)).lines()
    assert "Question->Last in layer 8" in critical
    assert "told from chance by 8 questions" in stages
    assert "8 questions cannot show a cost below 31.2 points" in pruning
    assert pruning.endswith("The estimates alone, without confidence, stay below the cost from layer 4 on.")


def test_small_falls_are_not_critical() -> None:
    critical = findings(recommended(rows_of({ANSWER: {2: 0.05}}))).critical
    assert "nothing is critical; the largest fall is 5.0 points" in critical
    assert critical.endswith("(Question->Last, layer 2).")


def test_several_tasks_are_told_together() -> None:
    rows = pd.concat([rows_of(TWO_STEPS, task="A"), rows_of({**TWO_STEPS, STRAIGHT: {7: 0.07}}, task="B")])
    found = recommended(rows)
    assert [stages.task for stages in found.stages] == ["All tasks", "A", "B"]
    assert len(found.critical) == 3 * 5
    critical, stages, pruning, power = findings(found).lines()
    assert "n = 320" in critical
    assert critical.endswith(f"{STRAIGHT} only in single tasks (B 7); none of {GENERAL}.")
    assert "answer aggregation in layer 8" in stages
    assert "(95 % confidence, in each of 2 tasks)" in pruning
    assert power.startswith("Power: 320 questions on 320 images (design effect 1.0) could show ")


def test_controls_and_margins_change_no_finding() -> None:
    rows = pd.concat([rows_of(TWO_STEPS, task=task) for task in "AB"])
    controls = pd.concat([rows_of({ANSWER: {2: 0.9}, STRAIGHT: {5: 0.9}}, task=task) for task in "AB"])
    controls = controls.assign(control=1, control_overlap=0.0)
    both = pd.concat([rows.assign(control=0), controls]).assign(base_margin=1.0, knockout_margin=0.5)
    assert recommended(both) == recommended(rows)


def test_an_order_that_is_not_supported_is_said() -> None:
    rows = rows_of({GENERAL: {5: 0.6}, SPECIFIC: {5: 0.6}, ANSWER: {9: 0.6}})
    assert "their order is not supported: it shows in 0.0 % of resamples" in findings(recommended(rows)).stages


def test_cross_attention_sentences() -> None:
    shape = ModelShape(**{**vars(SHAPE), "cross_attention_layers": (1, 5, 9)})
    assert (
        "from layer 5 on cross-attention to the image can go"
        in findings(recommended(rows_of(TWO_STEPS), shape)).pruning
    )
    single = rows_of({"Image->All@single": {5: 0.5}}, questions=250)
    pruning = findings(recommended(single, shape)).pruning
    assert "can be skipped, one layer at a time, in layers 1, 9 at a cost below 2 points" in pruning
    assert "; each saves" in pruning


def test_no_rows() -> None:
    found = recommended(ROW_SCHEMA.empty_table().to_pandas())
    critical, stages, pruning, power = findings(found).lines()
    assert critical.endswith("nothing was measured but the pruning.")
    assert stages == "Stages: no question has rows."
    assert "the run has no rows of Image->All" in pruning
    assert power == "Power: no edges were blocked, from which it would be told."
    assert json.loads(recommendation_json(found))["critical"] == []


def test_one_question() -> None:
    found = recommended(rows_of(TWO_STEPS, questions=1))
    assert len(findings(found).lines()) == 4
    assert json.loads(recommendation_json(found))["critical"][0]["low"] is None


def test_the_file_holds_everything_and_reads_back(two_steps: Recommendation) -> None:
    text = recommendation_json(two_steps)
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read["tau"] == 5.0
    assert read["resampling"] == {"confidence": 0.95, "resamples": 1000, "seed": 0}
    critical = {(curve["pathway"], curve["style"]): curve["layers"] for curve in read["critical"]}
    assert critical[ANSWER, "centred"] == [8]
    assert critical["Image->All", "to-end"] == [0, 1, 2, 3]
    assert [stage["layers"] for stage in read["stages"][0]["stages"]] == [[], [[3, 3]], [[8, 8]]]
    pruning = read["pruning"]
    assert (pruning["layer"], pruning["cost"], pruning["cross_attention"]) == (4, 2.0, False)
    assert pruning["saving"]["key_value_bytes"]["share"] == pytest.approx(8 / 12 * 7 / 16)
    assert len(pruning["tasks"][0]["evidence"]) == LAYERS
    assert text == recommendation_json(recommended(rows_of(TWO_STEPS).sample(frac=1, random_state=3)))


def test_every_number_is_finite_or_null() -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [number for part in value for number in numbers(part)]
        return [value] if isinstance(value, float) else []

    found = numbers(json.loads(recommendation_json(recommended(rows_of(TWO_STEPS, questions=1)))))
    assert found
    assert all(map(math.isfinite, found))


def test_ranges() -> None:
    assert layer_ranges([4, 0, 1, 2, 7, 8]) == ((0, 2), (4, 4), (7, 8))
    assert ranges_text(layer_ranges([4, 0, 1, 2, 7, 8])) == "0–2, 4, 7–8"
    assert layer_ranges([]) == ()
