"""Accuracy against counts made by hand, and Wilson's interval against published numbers and its defining equation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.shared_images import DESIGNS, accuracies_held, correlated, images_of
from xmflow_jax.analysis.accuracy import (
    ACCURACY_COLUMNS,
    Z,
    accuracy_lines,
    accuracy_table,
    effective_questions,
    wilson_interval,
)

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


def test_copies_of_an_answer_on_its_image_are_one_answer() -> None:
    scores = [1.0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
    alone = accuracy_table(answers(*(("vqa", None, None, score, "vqa") for score in scores)))
    copies = answers(*(("vqa", None, None, score, "vqa") for score in scores for _ in range(5)))
    table = accuracy_table(copies.assign(image_id=[f"{place // 5}" for place in range(60)]))
    assert table[["n", "images"]].to_numpy().tolist() == [[60, 12]] * 2
    assert table["design_effect"].tolist() == pytest.approx([59 / 11] * 2)
    # But for the factor (n - 1) / n of few images, 12 of 60 are worth 60 / 5.36 = 11.2, and Student's quantiles less.
    effective = 60 * 11 / 59 * (stats.t.ppf(0.975, 59) / stats.t.ppf(0.975, 11)) ** 2
    expected = [100 * end for end in wilson_interval(0.75, effective)]
    np.testing.assert_allclose(table[["accuracy_low", "accuracy_high"]].to_numpy(), [expected] * 2)
    assert (table["accuracy_low"] < alone["accuracy_low"]).all()
    assert ", n = 60 on 12 images, vqa" in accuracy_lines(table)[0]


@pytest.mark.parametrize(("images", "worth"), [("abcd", 4), ("aaaa", 1), ("aabc", 8 / 3)])
def test_answers_that_all_agree_are_worth_their_effective_images(images: str, worth: float) -> None:
    rows = answers(*[("vqa", None, None, 1.0, "vqa")] * 4).assign(image_id=list(images))
    table = accuracy_table(rows)
    assert table["accuracy_low"][0] == pytest.approx(100 * wilson_interval(1.0, worth)[0])


def test_coverage_of_accuracy_where_a_tenth_of_the_images_has_eight_questions() -> None:
    """The whole table: `python -m experiments.analysis.shared_images`."""
    known, unknown = accuracies_held(images_of(DESIGNS["1, of every tenth 8"], 60), 0.9, 600)
    assert known >= 0.93  # as a rule too wide, since hardly an image tells how alike its answers are
    assert unknown < 0.8


def test_an_accuracy_with_hardly_a_wrong_answer_knows_little_of_its_images() -> None:
    """Of 20 images with eight questions one or none has a wrong answer, or all its eight are wrong."""
    images = images_of((8,), 20)
    right = correlated(lambda random, shape: random.random(shape) < 0.95, np.random.default_rng(0), images, 400, 0.6)
    held = []
    for one in right.T * 1.0:
        low, high = wilson_interval(one.mean(), effective_questions(one, images))
        held.append(low <= 0.95 <= high)
    assert np.mean(held) >= 0.93  # 80 % by the estimated design effect alone


def test_coverage_of_accuracy_where_images_are_shared() -> None:
    images = images_of(DESIGNS["1 to 8 questions an image"], 60)
    right = correlated(lambda random, shape: random.random(shape) < 0.8, np.random.default_rng(0), images, 400, 0.6)
    known = [wilson_interval(one.mean(), effective_questions(one, images)) for one in right.T * 1.0]
    unknown = [wilson_interval(one.mean(), len(one)) for one in right.T * 1.0]
    assert 0.93 <= np.mean([low <= 0.8 <= high for low, high in known]) <= 0.97
    assert np.mean([low <= 0.8 <= high for low, high in unknown]) < 0.8
