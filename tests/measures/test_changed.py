"""The share of answers that change at all, of rows written down here."""

import numpy as np
import pandas as pd
import pytest

from tests.run.result_rows import row
from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.analysis.permutation import sign_flip_p_values
from xmflow_jax.analysis.summary import summarize
from xmflow_jax.run.parts import table_of

# Right to wrong, wrong to right, one wrong answer for another, no change, another case.
PAIRS = [
    ("red", "blue", 1, 0),
    ("blue", "red", 0, 1),
    ("blue", "green", 0, 0),
    ("red", "red", 1, 1),
    ("Red", "red", 1, 1),
]


def table(pairs: list[tuple[str, str, int, int]], layer: int = 0, control: int = 0) -> pd.DataFrame:
    rows = [
        row(
            f"q{number}", layer, control=control, base_answer=base, knockout_answer=knockout,
            base_score=float(before), knockout_score=float(after), control_overlap=0.0 if control else None,
        )
        for number, (base, knockout, before, after) in enumerate(pairs)
    ]  # fmt: skip
    return pd.DataFrame(table_of(rows, "part").to_pandas())


def test_every_change_counts_whatever_it_does_to_the_score() -> None:
    one = summarize(table(PAIRS)).iloc[0]
    assert one["delta_accuracy"] == 0.0  # one lost, one gained
    assert one["changed"] == 80.0
    ends = bootstrap_intervals(np.array([[100.0], [100], [100], [0], [100]]), bounds=(0, 100))
    np.testing.assert_allclose([one["changed_low"], one["changed_high"]], [ends.low[0], ends.high[0]])
    assert one["changed_p_value"] == sign_flip_p_values(np.array([[1.0], [1], [1], [0], [1]]))[0] == 2 / 2**4
    assert one["changed_p_holm"] == one["changed_p_value"]


def test_no_change_among_few_answers_has_the_exact_interval() -> None:
    """Clopper and Pearson's: 0 of 40 changed is 0 to 8.8 %, 40 of 40 is 91.2 to 100 %."""
    most = 100 * (1 - 0.025 ** (1 / 40))
    none, all_of_them = (summarize(table([pair] * 40)).iloc[0] for pair in (PAIRS[3], PAIRS[0]))
    np.testing.assert_allclose([none["changed_low"], none["changed_high"]], [0, most])
    np.testing.assert_allclose([all_of_them["changed_low"], all_of_them["changed_high"]], [100 - most, 100])


def test_controls_change_answers_too() -> None:
    own = table(PAIRS)
    draws = [table([PAIRS[3]] * 4 + PAIRS[4:], control=1), table([PAIRS[3]] * 5, control=2)]
    one = summarize(pd.concat([own, *draws], ignore_index=True)).iloc[0]
    assert one["control_changed"] == pytest.approx(10.0)
    assert one["changed_over_control"] == pytest.approx(70.0)


def test_accuracy_falls_by_no_more_than_changes() -> None:
    rng = np.random.default_rng(0)
    answers = np.array(["red", "blue", "green"])
    layers = []
    for layer in range(12):
        drawn = rng.integers(0, 3, (30, 2))
        layers.append(table([(answers[a], answers[b], int(a == 0), int(b == 0)) for a, b in drawn], layer))
    summary = summarize(pd.concat(layers, ignore_index=True))
    assert (summary["delta_accuracy"].abs() <= summary["changed"] + 1e-9).all()
    assert (summary["changed"] > summary["delta_accuracy"].abs() + 5).any()


def test_rows_without_answers_do_not_have_it() -> None:
    assert "changed" not in summarize(table(PAIRS).drop(columns="base_answer"))
