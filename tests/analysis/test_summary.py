import numpy as np
import pandas as pd
import pytest

from xmflow_jax.analysis.summary import SUMMARY_COLUMNS, summarize
from xmflow_jax.results import ROW_SCHEMA


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
    assert tuple(table.columns) == SUMMARY_COLUMNS
    assert table[["task", "layer", "n"]].to_numpy().tolist() == [
        ["Another", 0, 1],
        ["ChooseAttr", 2, 4],
        ["ChooseAttr", 10, 4],
    ]
    np.testing.assert_allclose(table["base_accuracy"], [60, 75, 75])
    np.testing.assert_allclose(table["knockout_accuracy"], [30, 100, 25])
    np.testing.assert_allclose(table["delta_accuracy"], [30, -25, 50])
    np.testing.assert_allclose(table["relative_change"], [-8, 0.5, -20])
    assert table["critical"].tolist() == [True, False, True]


def test_intervals_are_empty_cells_until_they_are_computed() -> None:
    text = summarize(rows([1], [0], [-10])).to_csv(index=False)
    assert text.splitlines()[1] == "ChooseAttr,Image->Question,centred,0,1,100.0,0.0,100.0,,,-10.0,,,True"


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
    with pytest.raises(ValueError, match="ChooseAttr, Image->Question, centred, 0, q0"):
        summarize(pd.concat([rows([1], [1], [0]), rows([1], [1], [0])]))


def test_no_rows_give_an_empty_table_with_its_columns() -> None:
    table = summarize(ROW_SCHEMA.empty_table().to_pandas())
    assert tuple(table.columns) == SUMMARY_COLUMNS
    assert len(table) == 0


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = pd.concat([rows([1, 0.3], [0.6, 0.9], [-1.5, 2.25], layer=layer) for layer in range(4)])
    pd.testing.assert_frame_equal(summarize(table), summarize(table.sample(frac=1, random_state=1)))
