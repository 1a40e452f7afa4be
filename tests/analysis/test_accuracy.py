"""Accuracy against counts made by hand, and Wilson's interval against published numbers and its defining equation."""

import math

import pandas as pd
import pytest

from xmflow_jax.analysis.accuracy import ACCURACY_COLUMNS, Z, accuracy_lines, accuracy_table, wilson_interval

COLUMNS = ["task", "question_type", "answer_type", "score", "scorer"]


def answers(*rows: tuple[str, str | None, str | None, float | None, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype({"score": float})


def test_groups_are_counted_as_by_hand() -> None:
    table = accuracy_table(
        answers(
            ("vqa", "what color", "other", 0.3, "vqa"),
            ("vqa", "what color", "other", 1.0, "vqa"),
            ("vqa", "how many", "number", 0.0, "vqa"),
            ("vqa", "how many", "number", None, "vqa"),  # its answers are kept back
            ("shapes", None, None, 1.0, "exact"),
        )
    )
    assert list(table.columns) == list(ACCURACY_COLUMNS)
    found = table[["grouping", "group", "n", "scorer"]].to_records(index=False).tolist()
    assert found == [
        ("all", "all", 4, "exact and vqa"),
        ("task", "shapes", 1, "exact"),
        ("task", "vqa", 3, "vqa"),
        ("question_type", "how many", 1, "vqa"),
        ("question_type", "what color", 2, "vqa"),
        ("answer_type", "number", 1, "vqa"),
        ("answer_type", "other", 2, "vqa"),
    ]
    assert table["accuracy"].tolist() == pytest.approx([57.5, 100, 130 / 3, 0, 65, 0, 65], abs=1e-9)
    assert (table["accuracy_low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["accuracy_high"]).all()


def test_the_order_of_the_answers_changes_no_bit() -> None:
    rows = [("vqa", None, None, score, "vqa") for score in (0.1, 0.3, 0.6, 0.9, 1.0, 0.3, 0.7)]
    pd.testing.assert_frame_equal(
        accuracy_table(answers(*rows)), accuracy_table(answers(*rows[::-1])), check_exact=True
    )


def test_nothing_scored_gives_an_empty_table() -> None:
    table = accuracy_table(answers(("vqa", None, None, None, "vqa")))
    assert (len(table), list(table.columns), accuracy_lines(table)) == (0, list(ACCURACY_COLUMNS), [])


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(right: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(right / n, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("mean", "n"), [(0.37, 10), (0.985, 400), (0.5, 1)])
def test_its_ends_are_shares_that_the_mean_is_just_compatible_with(mean: float, n: int) -> None:
    for end in wilson_interval(mean, n):
        assert abs(mean - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), abs=1e-12)


def test_lines_name_group_interval_count_and_rule() -> None:
    rows = [("shapes", None, None, score, "exact") for score in (1.0, 1.0, 1.0, 0.0)]
    overall, heading, task = accuracy_lines(accuracy_table(answers(*rows)))
    assert heading == "by task:"
    for line in (overall, task):
        assert "accuracy  75.00 % (95 %: 30.06 to 95.44), n = 4, exact" in line
    assert task.split()[0] == "shapes"
