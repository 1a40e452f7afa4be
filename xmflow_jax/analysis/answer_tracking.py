"""From one lens row per question and layer to mean probabilities per task and layer, with their intervals."""

from typing import Final

import numpy as np
import pandas as pd

from xmflow_jax.analysis.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_intervals
from xmflow_jax.analysis.clusters import IMAGE, image_codes
from xmflow_jax.run.schemas import TRACKED

TRACKING_COLUMNS: Final = ("task", "normed", "word", "layer", "n", "probability", "low", "high")

_STATE: Final = ["normed", "layer"]


def track_answers(
    lens: pd.DataFrame,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    rows: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`TRACKING_COLUMNS`, a row per task, `normed`, followed word (`TRACKED`) and layer.

    Probabilities are means over the `n` questions that have such a word; a word that no question of a task has gets no
    rows. Intervals are those of `bootstrap_intervals`, without bounds: a layer in which all questions agree to the last
    bit would stand out from its neighbours, where they nearly do, by an interval that no other layer has.

    Args:
        lens: lens rows (`LENS_SCHEMA`), as `xmflow_jax.run.folder.read_lens` gives them.
        rows: the run's rows, which know the questions' images; a question without any is taken as one of an image of
            its own, and so are all without `rows`.
    """
    tables, names = [], _image_names(rows)
    for task, own in lens.groupby("task", sort=True):
        # Questions by (word, normed, layer).
        wide = own.pivot(index="question_id", columns=_STATE, values=list(TRACKED))
        wide = wide.loc[:, wide.notna().any()]
        values = wide.to_numpy(np.float64)
        if not values.size:
            continue
        images = image_codes([names.get((str(task), str(question))) for question in wide.index])
        ends = bootstrap_intervals(values, confidence, resamples, seed, images=images)
        table = wide.columns.set_names(["word", *_STATE]).to_frame(index=False)
        numbers = {"n": (~np.isnan(values)).sum(0), "probability": np.nanmean(values, axis=0)}
        tables.append(table.assign(task=task, **numbers, low=ends.low, high=ends.high))
    if not tables:
        return pd.DataFrame(columns=list(TRACKING_COLUMNS))
    # In the order in which the words are told, not in the alphabet's.
    place = {word: number for number, word in enumerate(TRACKED)}
    table = pd.concat(tables, ignore_index=True).astype({"normed": bool, "layer": int})
    table = table.sort_values(list(TRACKING_COLUMNS[:4]), key=lambda own: own.map(place) if own.name == "word" else own)
    return table[list(TRACKING_COLUMNS)].reset_index(drop=True)


def _image_names(rows: pd.DataFrame | None) -> dict[tuple[str, str], str]:
    """By task and question."""
    if rows is None or IMAGE not in rows:
        return {}
    first = rows.drop_duplicates(["task", "question_id"])
    return dict(zip(zip(first["task"], first["question_id"], strict=True), first[IMAGE], strict=True))
