"""Mean probabilities against sums by hand, and their intervals against the bootstrap of single columns."""

from typing import Any

import numpy as np
import pandas as pd

from tests.run.result_rows import lens_row
from xmflow_jax.analysis.answer_tracking import TRACKING_COLUMNS, track_answers
from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.run.parts import table_of
from xmflow_jax.run.schemas import LENS_SCHEMA, TRACKED

LAYERS, QUESTIONS = (-1, 0, 1), 6


def lens_table() -> pd.DataFrame:
    """Two tasks; of the first every other question has a false option, of the second none."""
    rng = np.random.default_rng(0)
    rows: list[Any] = []
    for task, options in (("B", 2), ("A", QUESTIONS + 1)):
        for number in range(QUESTIONS):
            for layer in LAYERS:
                for normed in (False, True):
                    answer, capital, false = rng.random(3).tolist()
                    changes: dict[str, Any] = {"answer_prob": answer, "answer_capital_prob": capital, "normed": normed}
                    if number % options == 1 and task == "B":
                        changes |= {"false_option": "blue", "false_option_prob": false}
                    rows.append(lens_row(f"q{number}", layer, task, **changes))
    frame: pd.DataFrame = table_of(rows, "lens").to_pandas()
    return frame


def test_means_counts_and_intervals_of_every_word_and_layer() -> None:
    lens = lens_table()
    table = track_answers(lens, resamples=500, seed=1)
    assert list(table.columns) == list(TRACKING_COLUMNS)
    # In both tasks the answer and its capitalised form; in B the false option.
    words = {"A": TRACKED[:2], "B": TRACKED[:3]}
    expected = [
        (task, normed, word, layer)
        for task in "AB"
        for normed in (False, True)
        for word in words[task]
        for layer in LAYERS
    ]
    assert list(table[list(TRACKING_COLUMNS[:4])].itertuples(index=False, name=None)) == expected
    for (task, normed, word, layer), row in zip(expected, table.itertuples(), strict=True):
        own = lens[(lens["task"] == task) & (lens["normed"] == normed) & (lens["layer"] == layer)]
        values = own.sort_values("question_id")[word].dropna().to_numpy()
        assert row.n == len(values) == (3 if word == "false_option_prob" else QUESTIONS)
        assert abs(row.probability - values.mean()) < 1e-12
        alone = bootstrap_intervals(values[:, None], resamples=500, seed=1)
        np.testing.assert_allclose((row.low, row.high), (alone.low[0], alone.high[0]), rtol=1e-12)
        assert row.low < row.probability < row.high
    pd.testing.assert_frame_equal(track_answers(lens.sample(frac=1, random_state=0), resamples=500, seed=1), table)


def test_no_rows_give_no_rows() -> None:
    empty = track_answers(LENS_SCHEMA.empty_table().to_pandas())
    assert list(empty.columns) == list(TRACKING_COLUMNS)
    assert empty.empty
