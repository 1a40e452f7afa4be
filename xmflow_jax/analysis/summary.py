"""From one row per question, pathway and layer to one row per pathway and layer: the content of `summary.csv`."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from xmflow_jax.analysis.bootstrap import CONFIDENCE, RESAMPLES, ROUNDING, bootstrap_intervals
from xmflow_jax.analysis.permutation import holm, sign_flip_p_values
from xmflow_jax.analysis.question_matrix import CONFIGURATION, QuestionMatrix, pathway_rows, question_matrix

# Of every summary; those of margins and controls follow where rows have them.
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
    "p_value",
    "p_holm",
    "relative_change_p_value",
    "relative_change_p_holm",
)
MARGIN_COLUMNS: Final = (
    "margin_n",
    "base_margin",
    "knockout_margin",
    "margin_change",
    "margin_change_low",
    "margin_change_high",
)
CONTROL_COLUMNS: Final = (
    "controls",
    "control_delta_accuracy",
    "delta_accuracy_over_control",
    "delta_accuracy_over_control_low",
    "delta_accuracy_over_control_high",
    "control_relative_change",
    "relative_change_over_control",
    "relative_change_over_control_low",
    "relative_change_over_control_high",
    "control_overlap",
)

TAU: Final = 5.0

_GROUP: Final = ["task", *CONFIGURATION]
_MARGINS: Final = ["base_margin", "knockout_margin"]


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: their confidence (0 to 1), the number of resamples, and the seed."""

    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    seed: int = 0


def summarize(rows: pd.DataFrame, tau: float = TAU, resampling: Resampling | None = None) -> pd.DataFrame:
    """Accuracy and relative change of every task, pathway, style and layer, sorted by these.

    `n` is the number of questions. Accuracies are means of the scores in percent (0 to 100), `delta_accuracy` is base
    minus knockout in percentage points, `relative_change` the mean over questions in percent. Questions whose base
    probability is 0 have no relative change (NaN): they count in `n` and in the accuracies, and are left out of the
    mean of the relative changes, which is NaN if no question remains.

    `_low` and `_high` are the ends of the 95 % intervals (`bootstrap_intervals`), NaN for fewer than two questions.
    `critical` is `delta_accuracy > tau` with an interval above zero. `p_value` is the sign-flip test's of
    `delta_accuracy`, `p_holm` the same corrected over the layers of a task, pathway and style;
    `relative_change_p_value` and `relative_change_p_holm` are those of `relative_change`.

    Rows of single heads are left out: they are `xmflow_jax.analysis.heads`'. Where rows have `base_margin` and
    `knockout_margin` (log-odds of the true over the false option), `MARGIN_COLUMNS` follow: means over the `margin_n`
    questions that have finite ones; `margin_change` is knockout minus base. Where rows have matched controls (`control`
    is 0 for the pathway itself, 1 and up for the draws), `CONTROL_COLUMNS` follow: the number of draws, the control's
    mean effect, and pathway minus control with its interval, paired by question, and the mean share (0 to 1) of the
    control's edges that are the pathway's too.

    Args:
        rows: a run's rows (`xmflow_jax.run.folder.read_rows`).
        tau: percentage points that a critical layer's accuracy drop exceeds.
        resampling: how intervals are made; default: `Resampling()`.

    Raises:
        ValueError: a question has several rows in one group, as when runs of different windows are concatenated.
    """
    resampling = resampling or Resampling()
    controlled = "control" in rows and bool((rows["control"] > 0).any())
    margins = set(_MARGINS) <= set(rows)
    key = [*_GROUP, "question_id", *(name for name in ("control", "head") if name in rows)]
    repeated = rows[rows.duplicated(key)]
    if len(repeated):
        first = ", ".join(str(value) for value in repeated.iloc[0][key])
        raise ValueError(f"{len(repeated)} rows repeat a question in one group, the first is ({first})")
    rows = rows.assign(drop=rows["base_score"] - rows["knockout_score"])
    own = pathway_rows(rows)
    names = [*SUMMARY_COLUMNS, *(MARGIN_COLUMNS if margins else ()), *(CONTROL_COLUMNS if controlled else ())]
    tables = []
    for task, here in own.groupby("task", sort=True, observed=True):
        measures = ["base_score", "knockout_score", "drop", "relative_change", *(_MARGINS if margins else ())]
        matrix = question_matrix(here, measures)
        table = _effects(matrix, tau, resampling)
        if margins:
            table = table.assign(**_margins(matrix, resampling))
        if controlled:
            draws = rows[(rows["task"] == task) & (rows["control"] > 0)]
            table = table.assign(**_controls(matrix, draws, resampling))
        tables.append(table.assign(task=task))
    if not tables:
        return own.reindex(columns=names)
    return pd.concat(tables, ignore_index=True)[names]


def _effects(matrix: QuestionMatrix, tau: float, resampling: Resampling) -> pd.DataFrame:
    table = matrix.columns.copy()
    drop, change = matrix.values["drop"], matrix.values["relative_change"]
    n = (~np.isnan(drop)).sum(axis=0)
    base, knockout = (np.nansum(matrix.values[name], axis=0) for name in ("base_score", "knockout_score"))
    table["n"] = n
    # 100 * sum / n rather than 100 * mean: 5 lost of 100 is then exactly 5 points.
    table["base_accuracy"] = 100 * base / n
    table["knockout_accuracy"] = 100 * knockout / n
    table["delta_accuracy"] = 100 * (base - knockout) / n
    _put_interval(table, "delta_accuracy", 100 * drop, resampling, _bounds(matrix))
    table["relative_change"] = column_means(change)
    _put_interval(table, "relative_change", change, resampling)
    table["critical"] = (table["delta_accuracy"] > tau + ROUNDING) & (table["delta_accuracy_low"] > ROUNDING)
    for prefix, values in (("", drop), ("relative_change_", change)):
        table[f"{prefix}p_value"] = sign_flip_p_values(values, seed=resampling.seed)
        by_curve = table.groupby(["pathway", "style"], sort=False)[f"{prefix}p_value"]
        table[f"{prefix}p_holm"] = by_curve.transform(lambda p: holm(p.to_numpy()))
    return table


def _margins(matrix: QuestionMatrix, resampling: Resampling) -> dict[str, np.ndarray]:
    base, knockout = (matrix.values[name] for name in _MARGINS)
    known = np.isfinite(base) & np.isfinite(knockout)
    base, knockout = np.where(known, base, np.nan), np.where(known, knockout, np.nan)
    table = pd.DataFrame({"margin_n": known.sum(axis=0)})
    for name, values in zip(_MARGINS, (base, knockout), strict=True):
        table[name] = column_means(values)
    table["margin_change"] = column_means(knockout - base)
    _put_interval(table, "margin_change", knockout - base, resampling)
    return {name: table[name].to_numpy() for name in MARGIN_COLUMNS}


def _controls(matrix: QuestionMatrix, draws: pd.DataFrame, resampling: Resampling) -> dict[str, np.ndarray]:
    key = ["question_id", *CONFIGURATION]
    means = draws.groupby(key, sort=True, observed=True)[["drop", "relative_change", "control_overlap"]].mean()
    count = draws.groupby(list(CONFIGURATION), observed=True)["control"].nunique()
    # A matrix of the same questions and columns as the pathway's own.
    wanted = pd.MultiIndex.from_frame(
        matrix.columns.merge(pd.DataFrame({"question_id": matrix.questions}), how="cross")[key]
    )
    shape = (len(matrix.columns), len(matrix.questions))
    table = pd.DataFrame({"controls": count.reindex(pd.MultiIndex.from_frame(matrix.columns)).fillna(0).astype(int)})
    table = table.reset_index(drop=True)
    for measure, name, scale in (("drop", "delta_accuracy", 100.0), ("relative_change", "relative_change", 1.0)):
        control = scale * means[measure].reindex(wanted).to_numpy().reshape(shape).T
        beyond = scale * matrix.values[measure] - control
        table[f"control_{name}"] = column_means(control)
        table[f"{name}_over_control"] = column_means(beyond)
        _put_interval(table, f"{name}_over_control", beyond, resampling)
    overlap = means["control_overlap"].reindex(wanted).to_numpy().reshape(shape).T
    table["control_overlap"] = column_means(overlap)
    return {name: table[name].to_numpy() for name in CONTROL_COLUMNS}


def _bounds(matrix: QuestionMatrix) -> tuple[float, float]:
    """The least and largest drop that a question can have, in points: one that was right cannot gain."""
    base = matrix.values["base_score"]
    return 100 * (float(np.nanmin(base)) - 1), 100 * float(np.nanmax(base))


def _put_interval(
    table: pd.DataFrame,
    name: str,
    values: Float[np.ndarray, "questions columns"],
    resampling: Resampling,
    bounds: tuple[float, float] | None = None,
) -> None:
    ends = bootstrap_intervals(values, resampling.confidence, resampling.resamples, resampling.seed, bounds)
    table[f"{name}_low"], table[f"{name}_high"] = ends.low, ends.high


def column_means(values: Float[np.ndarray, "questions columns"]) -> Float[np.ndarray, " columns"]:
    """Means over the questions that have a value; NaN where none has."""
    n = (~np.isnan(values)).sum(axis=0)
    return np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)
