"""Two runs on the same questions: what a knockout does in one beyond what it does in the other, paired by question.

Two intervals side by side say little of a difference: both runs found the same questions easy or hard. A question's
effect in one run minus its effect in the other leaves that out, and what is left is resampled and flipped as every
other effect is, images with all their questions (`xmflow_jax.analysis.clusters`).
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.analysis.clusters import IMAGE, image_sums
from xmflow_jax.analysis.curve import CURVE
from xmflow_jax.analysis.permutation import holm, sign_flip_p_values
from xmflow_jax.analysis.question_matrix import CONFIGURATION, pathway_rows, question_matrix
from xmflow_jax.analysis.summary import Resampling, column_means
from xmflow_jax.measures.measure import Measure
from xmflow_jax.measures.registry import MEASURES

DIFFERENCE_COLUMNS: Final = (
    *("task", *CONFIGURATION, "measure", "n", "images"),
    *("first", "second", "difference", "low", "high", "p_value", "p_holm"),
)


def paired_differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    resampling: Resampling | None = None,
    measures: Iterable[Measure] = MEASURES,
) -> pd.DataFrame:
    """Every measure's difference, second minus first, in every place that both runs have.

    The same question is one of the same task, id and image. Layers are compared by number, which makes sense of models
    of equal depth.

    Args:
        first, second: the runs' rows (`xmflow_jax.run.folder.read_rows`); matched controls and single heads are left
            out.
        resampling: how intervals are made; default: `Resampling()`.
        measures: those wanted; of these the ones that both runs have.

    Returns:
        `DIFFERENCE_COLUMNS`, sorted by task, measure and place: the mean effects of both over the `n` questions, about
        `images` images, that have one in both; their difference with the ends of its interval (NaN below two images);
        the sign-flip test's p-value, and the same corrected over the layers of a curve. Empty where the runs share no
        question and place.
    """
    resampling = resampling or Resampling()
    both = [pathway_rows(rows) for rows in (first, second)]
    wanted = [one for one in measures if all(set(one.needs) <= set(rows.columns) for rows in both)]
    key = ["task", "question_id", *([IMAGE] if all(IMAGE in rows for rows in both) else []), *CONFIGURATION]
    tables = []
    for measure in wanted:
        parts = [rows[key].assign(effect=measure.scale * measure.effect(rows)) for rows in both]
        merged = parts[0].merge(parts[1], on=key, suffixes=("_first", "_second"))
        merged["difference"] = merged["effect_second"] - merged["effect_first"]
        bounds = None
        if measure.bounds is not None and len(merged):
            ends = [measure.bounds(rows) for rows in both]
            bounds = measure.scale * (ends[1][0] - ends[0][1]), measure.scale * (ends[1][1] - ends[0][0])
        for task, here in merged.groupby("task", sort=True):
            tables.append(_differences(here, resampling, bounds).assign(task=task, measure=measure.key))
    found = [table for table in tables if len(table)]
    if not found:
        return pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))
    table = pd.concat(found, ignore_index=True)[list(DIFFERENCE_COLUMNS)]
    return table.sort_values(["task", "measure", *CONFIGURATION], kind="stable", ignore_index=True)


def _differences(merged: pd.DataFrame, resampling: Resampling, bounds: tuple[float, float] | None) -> pd.DataFrame:
    """One task's and one measure's."""
    matrix = question_matrix(merged, ["difference", "effect_first", "effect_second"])
    difference = matrix.values["difference"]
    known = ~np.isnan(difference)
    ends = bootstrap_intervals(
        difference, resampling.confidence, resampling.resamples, resampling.seed, bounds, matrix.images
    )
    table = matrix.columns.assign(
        n=known.sum(axis=0),
        images=(image_sums(difference, matrix.images)[1] > 0).sum(axis=0),
        first=column_means(np.where(known, matrix.values["effect_first"], np.nan)),
        second=column_means(np.where(known, matrix.values["effect_second"], np.nan)),
        difference=column_means(difference),
        low=ends.low,
        high=ends.high,
        p_value=sign_flip_p_values(difference, seed=resampling.seed, images=matrix.images),
    )
    table["p_holm"] = table.groupby(list(CURVE), sort=False)["p_value"].transform(lambda p: holm(p.to_numpy()))
    return table[table["n"] > 0]
