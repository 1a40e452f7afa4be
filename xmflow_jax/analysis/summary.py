"""From one row per question, pathway and layer to one row per pathway and layer: the content of `summary.csv`."""

from typing import Final

import numpy as np
import pandas as pd

SUMMARY_COLUMNS: Final = (
    "task",
    "pathway",
    "style",
    "layer",
    "n",
    "base_accuracy",
    "knockout_accuracy",
    "delta_accuracy",
    "delta_accuracy_low",
    "delta_accuracy_high",
    "relative_change",
    "relative_change_low",
    "relative_change_high",
    "critical",
)

_GROUP: Final = ["task", "pathway", "style", "layer"]

# Scores such as VQA's 0.3 and 0.6 are no binary fractions; a drop of exactly tau must not become critical by rounding.
_ROUNDING: Final = 1e-9


def summarize(rows: pd.DataFrame, tau: float = 5.0) -> pd.DataFrame:
    """Accuracy and relative change of every task, pathway, style and layer, sorted by these.

    `n` is the number of questions. Accuracies are means of the scores in percent (0 to 100), `delta_accuracy` is base
    minus knockout in percentage points, `relative_change` the mean over questions in percent. Questions whose base
    probability is 0 have no relative change (NaN): they count in `n` and in the accuracies, and are left out of the
    mean of the relative changes, which is NaN if no question remains. `critical` is `delta_accuracy > tau`.

    The `_low` and `_high` columns belong to the 95 % intervals, which are not computed yet: they are NaN (empty cells
    in the file).

    Args:
        rows: a run's rows (`xmflow_jax.results.read_rows`).
        tau: percentage points that a critical layer's accuracy drop exceeds.

    Raises:
        ValueError: a question has several rows in one group, as when runs of different windows are concatenated.
    """
    repeated = rows[rows.duplicated([*_GROUP, "question_id"])]
    if len(repeated):
        first = ", ".join(str(value) for value in repeated.iloc[0][[*_GROUP, "question_id"]])
        raise ValueError(f"{len(repeated)} rows repeat a question in one group, the first is ({first})")
    groups = rows.groupby(_GROUP, sort=True, observed=True)
    table = groups.agg(
        n=("question_id", "size"),
        base=("base_score", "sum"),
        knockout=("knockout_score", "sum"),
        relative_change=("relative_change", "mean"),
    ).reset_index()
    # 100 * sum / n rather than 100 * mean: 5 lost of 100 is then exactly 5 points.
    table["base_accuracy"] = 100 * table["base"] / table["n"]
    table["knockout_accuracy"] = 100 * table["knockout"] / table["n"]
    table["delta_accuracy"] = 100 * (table["base"] - table["knockout"]) / table["n"]
    for measure in ("delta_accuracy", "relative_change"):
        table[f"{measure}_low"] = np.nan
        table[f"{measure}_high"] = np.nan
    table["critical"] = table["delta_accuracy"] > tau + _ROUNDING
    return table[list(SUMMARY_COLUMNS)]
