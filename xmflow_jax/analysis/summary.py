"""From one row per question, pathway and layer to one row per pathway and layer: the content of `summary.csv`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from xmflow_jax.analysis.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_intervals
from xmflow_jax.analysis.clusters import ROUNDING, design_effects, image_sums
from xmflow_jax.analysis.curve import CURVE
from xmflow_jax.analysis.permutation import holm, sign_flip_p_values
from xmflow_jax.analysis.question_matrix import CONFIGURATION, QuestionMatrix, pathway_rows, question_matrix
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.measure import Measure
from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.run.row_words import KEEP_ONLY

TAU: Final = 5.0

_GROUP: Final = ("task", *CONFIGURATION)
# Where and in which order `summary.csv` has had these from its first version on; what came later stands behind them.
_CONTRACT: Final = (
    *(*_GROUP, "n", "base_accuracy", "knockout_accuracy", "delta_accuracy", "delta_accuracy_low"),
    *("delta_accuracy_high", "relative_change", "relative_change_low", "relative_change_high", "critical"),
    *("p_value", "p_holm", "relative_change_p_value", "relative_change_p_holm"),
    *("margin_n", "base_margin", "knockout_margin", "margin_change", "margin_change_low", "margin_change_high"),
    *("controls", "control_delta_accuracy", "delta_accuracy_over_control", "delta_accuracy_over_control_low"),
    *("delta_accuracy_over_control_high", "control_relative_change", "relative_change_over_control"),
    *("relative_change_over_control_low", "relative_change_over_control_high", "control_overlap"),
)


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: their confidence (0 to 1), the number of resamples, and the seed."""

    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    seed: int = 0


def measure_columns(measure: Measure) -> tuple[str, ...]:
    """A summary's columns that are about one measure."""
    number = () if measure.number == "n" else (measure.number,)
    levels = (name for name, _ in measure.levels)
    return (
        *number,
        *levels,
        measure.key,
        measure.low,
        measure.high,
        measure.p_value,
        measure.p_holm,
        measure.design_effect,
    )


def control_columns(measure: Measure) -> tuple[str, ...]:
    """A summary's columns that compare one measure with its matched controls."""
    return measure.control, measure.over_control, f"{measure.over_control}_low", f"{measure.over_control}_high"


def summary_columns(measures: Sequence[Measure] = MEASURES, controlled: bool = False) -> tuple[str, ...]:
    """A summary's columns, in their order.

    Args:
        measures: that its rows have.
        controlled: whether there are matched controls among its rows.
    """
    names = [*_GROUP, "n", "images", "critical", *(name for measure in measures for name in measure_columns(measure))]
    if controlled:
        own = (name for measure in measures for name in control_columns(measure))
        names += ["controls", *own, "control_overlap"]
    return (*(name for name in _CONTRACT if name in names), *(name for name in names if name not in _CONTRACT))


# Of a run's summary without controls.
SUMMARY_COLUMNS: Final = summary_columns()


def summarize(
    rows: pd.DataFrame,
    tau: float = TAU,
    resampling: Resampling | None = None,
    measures: Iterable[Measure] = MEASURES,
) -> pd.DataFrame:
    """Every measure of every task, kind, mode, pathway, style and layer, sorted by these (`summary_columns`).

    `n` is the number of questions, about `images` images. A measure's effect is the mean over the questions that
    have one, NaN where none has: accuracies are in percent (0 to 100), `delta_accuracy` is base minus knockout in
    percentage points, `relative_change` is in percent, `margin_change` is knockout minus base over `margin_n`
    questions. Questions whose base probability is 0 have no relative change (NaN): they count in `n`, and are left
    out of that mean.

    `_low` and `_high` are the ends of the 95 % intervals (`bootstrap_intervals`), NaN for fewer than two images. Images
    are what is resampled and flipped, each with all its questions; `_design_effect` says what their sharing images does
    to the variance of the mean (`design_effects`).
    `critical` is `delta_accuracy > tau` with an interval above zero; of `keep-only` rows none is critical, since a fall
    there says that the pathway is not enough, and not that it is needed. `p_value` is the sign-flip test's of
    `delta_accuracy`, `p_holm` the same corrected over the layers of a curve; the other measures' have
    the measure's name before them.

    Rows of single heads are left out: they are `xmflow_jax.analysis.heads`'. Where rows have matched controls
    (`control` is 0 for the pathway itself, 1 and up for the draws), there are columns for the number of draws, the
    controls' mean effect, pathway minus control with its interval, paired by question, and the mean share (0 to 1) of
    the controls' edges that are the pathway's too.

    Args:
        rows: a run's rows (`xmflow_jax.run.folder.read_rows`).
        tau: percentage points that a critical layer's accuracy drop exceeds.
        resampling: how intervals are made; default: `Resampling()`.
        measures: those wanted, accuracy among them; rows that lack a measure's columns do not have it.

    Raises:
        ValueError: a question has several rows in one group, as when runs of different windows are concatenated.
    """
    resampling = resampling or Resampling()
    controlled = "control" in rows and bool((rows["control"] > 0).any())
    wanted = [measure for measure in measures if set(measure.needs) <= set(rows.columns)]
    _refuse_repeated(rows)
    rows = rows.assign(**{measure.key: measure.effect(rows) for measure in wanted})
    own, tables = pathway_rows(rows), []
    for task, here in own.groupby("task", sort=True, observed=True):
        averaged = [name for measure in wanted for name in (measure.key, *(column for _, column in measure.levels))]
        matrix = question_matrix(here, list(dict.fromkeys(averaged)))
        _, sizes = image_sums(matrix.values[ACCURACY.key], matrix.images)
        number, images = sizes.sum(axis=0).astype(int), (sizes > 0).sum(axis=0)
        table = matrix.columns.assign(task=task, n=number, images=images)
        for measure in wanted:
            _put_effect(table, measure, matrix, here, resampling)
        falls = (table[ACCURACY.key] > tau + ROUNDING) & (table[ACCURACY.low] > ROUNDING)
        table["critical"] = falls & (table["kind"] != KEEP_ONLY)
        if controlled:
            draws = rows[(rows["task"] == task) & (rows["control"] > 0)]
            _put_controls(table, wanted, matrix, draws, resampling)
        tables.append(table)
    names = list(summary_columns(wanted, controlled))
    return pd.concat(tables, ignore_index=True)[names] if tables else own.reindex(columns=names)


def _refuse_repeated(rows: pd.DataFrame) -> None:
    key = [*_GROUP, "question_id", *(name for name in ("control", "head") if name in rows)]
    repeated = rows[rows.duplicated(key)]
    if len(repeated):
        first = ", ".join(str(value) for value in repeated.iloc[0][key])
        raise ValueError(f"{len(repeated)} rows repeat a question in one group, the first is ({first})")


def _put_effect(
    table: pd.DataFrame, measure: Measure, matrix: QuestionMatrix, rows: pd.DataFrame, resampling: Resampling
) -> None:
    """One task's columns of one measure."""
    effect = matrix.values[measure.key]
    known = ~np.isnan(effect)
    if measure.number != "n":
        table[measure.number] = known.sum(axis=0)
    for name, column in measure.levels:
        table[name] = column_means(np.where(known, matrix.values[column], np.nan), measure.scale)
    table[measure.key] = column_means(effect, measure.scale)
    bounds = None
    if measure.bounds is not None:
        least, most = measure.bounds(rows)
        bounds = measure.scale * least, measure.scale * most
    _put_interval(table, measure.key, measure.scale * effect, matrix.images, resampling, bounds)
    table[measure.design_effect] = design_effects(effect, matrix.images)
    table[measure.p_value] = sign_flip_p_values(effect, seed=resampling.seed, images=matrix.images)
    by_curve = table.groupby(list(CURVE), sort=False)[measure.p_value]
    table[measure.p_holm] = by_curve.transform(lambda p: holm(p.to_numpy()))


def _put_controls(
    table: pd.DataFrame,
    measures: Sequence[Measure],
    matrix: QuestionMatrix,
    draws: pd.DataFrame,
    resampling: Resampling,
) -> None:
    """One task's columns of its matched controls."""
    key = ["question_id", *CONFIGURATION]
    averaged = [*(measure.key for measure in measures), "control_overlap"]
    means = draws.groupby(key, sort=True, observed=True)[averaged].mean()
    count = draws.groupby(list(CONFIGURATION), observed=True)["control"].nunique()
    # Matrices of the same questions and columns as the pathway's own.
    wanted = pd.MultiIndex.from_frame(
        matrix.columns.merge(pd.DataFrame({"question_id": matrix.questions}), how="cross")[key]
    )
    shape = (len(matrix.columns), len(matrix.questions))

    def of_draws(name: str) -> Float[np.ndarray, "questions columns"]:
        return np.asarray(means[name].reindex(wanted).to_numpy().reshape(shape).T)

    table["controls"] = count.reindex(pd.MultiIndex.from_frame(matrix.columns)).fillna(0).astype(int).to_numpy()
    for measure in measures:
        control = measure.scale * of_draws(measure.key)
        beyond = measure.scale * matrix.values[measure.key] - control
        table[measure.control] = column_means(control)
        table[measure.over_control] = column_means(beyond)
        _put_interval(table, measure.over_control, beyond, matrix.images, resampling)
    table["control_overlap"] = column_means(of_draws("control_overlap"))


def _put_interval(
    table: pd.DataFrame,
    name: str,
    values: Float[np.ndarray, "questions columns"],
    images: Int[np.ndarray, " questions"],
    resampling: Resampling,
    bounds: tuple[float, float] | None = None,
) -> None:
    ends = bootstrap_intervals(values, resampling.confidence, resampling.resamples, resampling.seed, bounds, images)
    table[f"{name}_low"], table[f"{name}_high"] = ends.low, ends.high


def column_means(values: Float[np.ndarray, "questions columns"], scale: float = 1.0) -> Float[np.ndarray, " columns"]:
    """Means over the questions that have a value, times `scale`; NaN where none has."""
    n = (~np.isnan(values)).sum(axis=0)
    # scale * sum / n rather than scale * mean: 5 lost of 100 is then exactly 5 points.
    return np.where(n > 0, scale * np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)
