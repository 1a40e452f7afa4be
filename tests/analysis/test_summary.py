import numpy as np
import pandas as pd
import pytest

from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.analysis.permutation import holm, sign_flip_p_values
from xmflow_jax.analysis.summary import (
    SUMMARY_COLUMNS,
    Resampling,
    control_columns,
    measure_columns,
    summarize,
    summary_columns,
)
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.margin import MARGIN
from xmflow_jax.measures.measure import Measure
from xmflow_jax.measures.probability import PROBABILITY
from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.run.folder import ROW_SCHEMA

# What `rows` have.
BOTH = (ACCURACY, PROBABILITY)


def rows(
    base: list[float],
    knockout: list[float],
    change: list[float],
    layer: int = 0,
    pathway: str = "Image->Question",
    task: str = "ChooseAttr",
) -> pd.DataFrame:
    """One group's rows; a question per entry."""
    return pd.DataFrame(
        {
            "question_id": [f"q{place}" for place in range(len(base))],
            "task": task,
            "kind": "edges",
            "mode": "mask",
            "pathway": pathway,
            "style": "centred",
            "layer": layer,
            "window": 9,
            "relative_change": change,
            "base_score": base,
            "knockout_score": knockout,
        }
    )


def test_numbers_computed_by_hand() -> None:
    table = summarize(
        pd.concat(
            [
                rows([1, 1, 0, 1], [1, 0, 0, 0], [-10, -30, 5, -45], layer=10),
                rows([1, 1, 0, 1], [1, 1, 1, 1], [0, 2, 0, 0], layer=2),
                rows([0.6], [0.3], [-8], task="Another"),
            ]
        )
    )
    assert tuple(table.columns) == summary_columns(BOTH)
    assert table[["task", "layer", "n"]].to_numpy().tolist() == [
        ["Another", 0, 1],
        ["ChooseAttr", 2, 4],
        ["ChooseAttr", 10, 4],
    ]
    np.testing.assert_allclose(table["base_accuracy"], [60, 75, 75])
    np.testing.assert_allclose(table["knockout_accuracy"], [30, 100, 25])
    np.testing.assert_allclose(table["delta_accuracy"], [30, -25, 50])
    np.testing.assert_allclose(table["relative_change"], [-8, 0.5, -20])


def test_the_contracts_columns_come_first() -> None:
    first = (
        *("task", "kind", "mode", "pathway", "style", "layer", "n", "base_accuracy", "knockout_accuracy"),
        *("delta_accuracy", "delta_accuracy_low", "delta_accuracy_high"),
        *("relative_change", "relative_change_low", "relative_change_high", "critical"),
        *("p_value", "p_holm", "relative_change_p_value", "relative_change_p_holm"),
        *("margin_n", "base_margin", "knockout_margin", "margin_change", "margin_change_low", "margin_change_high"),
    )
    controls = (
        *("controls", "control_delta_accuracy", "delta_accuracy_over_control", "delta_accuracy_over_control_low"),
        *("delta_accuracy_over_control_high", "control_relative_change", "relative_change_over_control"),
        *("relative_change_over_control_low", "relative_change_over_control_high", "control_overlap"),
    )
    assert SUMMARY_COLUMNS[: len(first)] == first
    assert summary_columns(controlled=True)[: len(first) + len(controls)] == first + controls


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_every_measure_has_its_columns(measure: Measure) -> None:
    assert set(measure_columns(measure)) <= set(SUMMARY_COLUMNS)
    assert set(control_columns(measure)) <= set(summary_columns(controlled=True))
    assert len(set(summary_columns(controlled=True))) == len(summary_columns(controlled=True))


def test_one_question_has_no_intervals_and_nothing_critical() -> None:
    text = summarize(rows([1], [0], [-10])).to_csv(index=False)
    assert text.splitlines()[1] == (
        "ChooseAttr,edges,mask,Image->Question,centred,0,1,100.0,0.0,100.0,,,-10.0,,,False,1.0,1.0,1.0,1.0,1,,"
    )


def test_intervals_and_p_values_are_those_of_each_measure() -> None:
    random = np.random.default_rng(0)
    base, layers = np.ones(50), []
    lost, change = random.random((50, 3)) < [0.1, 0.3, 0.9], random.normal([-5, 0, 5], 10, (50, 3))
    for layer in range(3):
        layers.append(rows(list(base), list(base - lost[:, layer]), list(change[:, layer]), layer=layer))
    # q10 sorts before q2: the questions' order is no matter.
    resampling = Resampling(confidence=0.9, resamples=4000, seed=5)
    table = summarize(pd.concat(layers), resampling=resampling)
    order = np.argsort([f"q{place}" for place in range(50)])
    for name, values in (("delta_accuracy", 100.0 * lost[order]), ("relative_change", change[order])):
        ends = bootstrap_intervals(values, 0.9, 4000, seed=5)
        np.testing.assert_allclose(table[f"{name}_low"], ends.low)
        np.testing.assert_allclose(table[f"{name}_high"], ends.high)
        assert (table[f"{name}_low"] < table[name]).all()
        assert (table[name] < table[f"{name}_high"]).all()
    for prefix, values in (("", lost[order].astype(float)), ("relative_change_", change[order])):
        p = sign_flip_p_values(values, seed=5)
        np.testing.assert_allclose(table[f"{prefix}p_value"], p)
        np.testing.assert_allclose(table[f"{prefix}p_holm"], holm(p))


def test_p_values_are_corrected_within_a_curve_and_not_across() -> None:
    """Ten questions, all lost in one of two layers: 2 / 2^10, times two."""
    lost, kept = rows([1] * 10, [0] * 10, [-5] * 10), rows([1] * 10, [1] * 10, [0] * 10, layer=1)
    curves = [
        pd.concat([lost, kept]).assign(**{column: name})
        for column in ("task", "kind", "pathway", "style")
        for name in "AB"
    ]
    table = summarize(pd.concat(curves))
    assert len(table) == 16
    np.testing.assert_allclose(table["p_value"], [2 / 1024, 1.0] * 8)
    np.testing.assert_allclose(table["p_holm"], [4 / 1024, 1.0] * 8)


def test_no_loss_among_few_questions_is_no_proof_of_none() -> None:
    """0 of 40 lost: Clopper and Pearson's interval; correct questions cannot gain, wrong ones cannot lose."""
    table = summarize(
        pd.concat([rows([1.0] * 40, [1.0] * 40, [0.0] * 40), rows([0] * 40, [0] * 40, [0.0] * 40, task="W")])
    )
    most = 100 * (1 - 0.025 ** (1 / 40))
    np.testing.assert_allclose(table[["delta_accuracy_low", "delta_accuracy_high"]], [[0, most], [-most, 0]])


def test_a_drop_whose_interval_holds_zero_is_not_critical() -> None:
    table = summarize(rows([1.0] * 10, [0.0] + [1.0] * 9, [0.0] * 10))
    assert table["delta_accuracy"].tolist() == [10.0]
    assert table["delta_accuracy_low"].tolist() == [0.0]
    assert table["critical"].tolist() == [False]


def test_a_pathway_that_some_questions_lack_does_not_change_the_others() -> None:
    random = np.random.default_rng(1)
    some = rows([1] * 30, list((random.random(30) < 0.5).astype(float)), list(random.normal(size=30)))
    other = some[::2].assign(pathway="Image->Last", relative_change=3.0 * some["relative_change"])
    together = summarize(pd.concat([some, other]))
    alone = pd.concat([summarize(other), summarize(some)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)
    assert together["n"].tolist() == [15, 30]


def test_margins() -> None:
    table = rows([1] * 4, [1, 1, 0, 1], [0.0] * 4)
    with_margins = table.assign(base_margin=[2.0, 1.0, np.nan, np.inf], knockout_margin=[1.0, -1.0, 0.5, 3.0])
    summary = summarize(with_margins)
    assert tuple(summary.columns) == summary_columns((*BOTH, MARGIN))
    pd.testing.assert_frame_equal(summary[list(summary_columns(BOTH))], summarize(table))
    ends = bootstrap_intervals(np.array([[-1.0], [-2.0]]))
    # Of two questions that both fall, two of the four flips are as far from zero.
    expected = [2, 1.5, 0.0, -1.5, ends.low[0], ends.high[0], 0.5, 0.5, 1.0]
    np.testing.assert_allclose(summary[list(measure_columns(MARGIN))].to_numpy(float)[0], expected)
    none = summarize(table.assign(base_margin=np.nan, knockout_margin=np.nan))
    assert none["margin_n"].tolist() == [0]
    assert none[list(measure_columns(MARGIN)[1:])].isna().all(axis=None)


def test_controls_are_paired_with_their_pathway() -> None:
    own = rows([1] * 6, [0, 0, 0, 1, 1, 1], [-60, -50, -40, -30, -20, -10])
    first = rows([1] * 6, [0, 1, 1, 1, 1, 1], [-6, -5, -4, -3, -2, -1])
    second = rows([1] * 6, [1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1])
    uncontrolled = rows([1] * 6, [1] * 6, [0] * 6, layer=1)
    table = pd.concat(
        [second.assign(control=2), own.assign(control=0), first.assign(control=1), uncontrolled.assign(control=0)]
    )
    table["control_overlap"] = table["control"].map({0: np.nan, 1: 0.5, 2: 0.25})
    summary = summarize(table)
    assert tuple(summary.columns) == summary_columns(BOTH, controlled=True)
    pd.testing.assert_frame_equal(summary[list(summary_columns(BOTH))], summarize(pd.concat([own, uncontrolled])))
    one, other = summary.iloc[0], summary.iloc[1]
    assert one["controls"] == 2
    np.testing.assert_allclose(one["control_delta_accuracy"], 100 / 12)
    np.testing.assert_allclose(one["control_relative_change"], (-21 + 3) / 12)
    beyond = np.array([[-60 + 3], [-50 + 2], [-40 + 2], [-30 + 1], [-20 + 1], [-10.0]])
    ends = bootstrap_intervals(beyond)
    np.testing.assert_allclose(one["relative_change_over_control"], beyond.mean())
    np.testing.assert_allclose(
        [one["relative_change_over_control_low"], one["relative_change_over_control_high"]], [ends.low[0], ends.high[0]]
    )
    np.testing.assert_allclose(one["delta_accuracy_over_control"], 50 - 100 / 12)
    np.testing.assert_allclose(one["control_overlap"], 0.375)
    assert other["controls"] == 0
    others = [name for measure in BOTH for name in control_columns(measure)]
    assert other[[*others, "control_overlap"]].isna().all()


def test_a_run_without_controls_has_no_columns_of_theirs() -> None:
    table = rows([1] * 6, [0, 0, 0, 1, 1, 1], [-60, -50, -40, -30, -20, -10])
    pd.testing.assert_frame_equal(summarize(table.assign(control=0, control_overlap=np.nan)), summarize(table))


def test_a_control_twice_is_refused() -> None:
    table = rows([1], [1], [0]).assign(control=1)
    with pytest.raises(ValueError, match="ChooseAttr, edges, mask, Image->Question, centred, 0, q0, 1"):
        summarize(pd.concat([table, table]))


def test_the_same_seed_gives_the_same_bytes_in_any_order() -> None:
    random = np.random.default_rng(4)
    table = pd.concat(
        [
            rows([1] * 60, list((random.random(60) < 0.7) * 1.0), list(random.normal(size=60)), layer)
            for layer in range(5)
        ]
    )
    text, again = summarize(table).to_csv(), summarize(table.sample(frac=1, random_state=2)).to_csv()
    assert text == again
    assert text != summarize(table, resampling=Resampling(seed=1)).to_csv()


@pytest.mark.parametrize(("lost", "critical"), [(5, False), (6, True)])
def test_critical_means_more_than_tau(lost: int, critical: bool) -> None:
    base, change = [1.0] * 100, [0.0] * 100
    assert summarize(rows(base, [0.0] * lost + [1.0] * (100 - lost), change))["critical"].tolist() == [critical]
    assert not summarize(rows(base, [0.0] * 6 + [1.0] * 94, change), tau=6)["critical"].any()


def test_rounding_does_not_make_a_drop_of_exactly_tau_critical() -> None:
    # Three questions that lose 0.9 - 0.6 each are 30 points, in floating point a little more.
    base, knockout = [0.9] * 3, [0.6] * 3
    assert 100 * (sum(base) - sum(knockout)) / 3 > 30
    assert not summarize(rows(base, knockout, [0.0] * 3), tau=30)["critical"].any()


def test_undefined_changes_count_in_n_but_not_in_the_mean() -> None:
    table = summarize(
        pd.concat([rows([1, 1, 1], [1, 0, 1], [-10, np.nan, -20]), rows([1, 1], [1, 1], [np.nan, np.nan], layer=1)])
    )
    assert table["n"].tolist() == [3, 2]
    np.testing.assert_array_equal(table["relative_change"], [-15, np.nan])
    np.testing.assert_allclose(table["delta_accuracy"], [100 / 3, 0])


def test_a_question_twice_in_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="ChooseAttr, edges, mask, Image->Question, centred, 0, q0"):
        summarize(pd.concat([rows([1], [1], [0]), rows([1], [1], [0])]))


def test_no_rows_give_an_empty_table_with_its_columns() -> None:
    table = summarize(ROW_SCHEMA.empty_table().to_pandas())
    assert tuple(table.columns) == SUMMARY_COLUMNS
    assert len(table) == 0


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = pd.concat([rows([1, 0.3], [0.6, 0.9], [-1.5, 2.25], layer=layer) for layer in range(4)])
    pd.testing.assert_frame_equal(summarize(table), summarize(table.sample(frac=1, random_state=1)))


def test_questions_about_one_image_are_taken_together() -> None:
    """Three questions on each of ten images: of intervals and p-values those of the images, if questions are copies."""
    random = np.random.default_rng(3)
    lost, change = (random.random(10) < 0.4).astype(float), random.normal(-5, 10, 10)
    alone = rows([1] * 10, list(1 - lost), list(change))
    copies = rows([1] * 30, list(1 - np.repeat(lost, 3)), list(np.repeat(change, 3)))
    copies = copies.assign(question_id=[f"q{place:02}" for place in range(30)])  # in the images' order
    known = summarize(copies.assign(image_id=[f"image {place // 3}" for place in range(30)])).iloc[0]
    assert (known["n"], known["images"]) == (30, 10)
    for name in ("delta_accuracy", "relative_change"):
        assert known[f"{name}_design_effect"] == pytest.approx(29 / 9)
    one, unknown = summarize(alone).iloc[0], summarize(copies).iloc[0]
    assert (unknown["images"], unknown["delta_accuracy_design_effect"]) == (30, 1)
    for name in ("delta_accuracy", "relative_change"):
        ends = [f"{name}_low", f"{name}_high"]
        np.testing.assert_allclose(known[ends].to_numpy(float), one[ends].to_numpy(float))
        assert np.diff(unknown[ends].to_numpy(float)) < 0.8 * np.diff(known[ends].to_numpy(float))
    assert known[["p_value", "relative_change_p_value"]].equals(one[["p_value", "relative_change_p_value"]])


def test_controls_are_resampled_with_their_images() -> None:
    own, draw = rows([1] * 8, [0, 0, 1, 1, 0, 0, 1, 1], [-9] * 8), rows([1] * 8, [1] * 8, [0] * 8)
    table = pd.concat([own.assign(control=0), draw.assign(control=1)]).assign(control_overlap=0.0)
    apart, shared = (
        summarize(
            table.assign(image_id=table["question_id"] if alone else table["question_id"].str[-1].astype(int) // 2)
        )
        for alone in (True, False)
    )
    widths = [
        float((one["delta_accuracy_over_control_high"] - one["delta_accuracy_over_control_low"]).iloc[0])
        for one in (apart, shared)
    ]
    assert widths[1] > 1.3 * widths[0]
