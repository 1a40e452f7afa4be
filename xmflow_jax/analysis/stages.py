"""The three stages of the study, read from three curves, and whether the data support them and their order.

Source of the stages: Cross-modal Information Flow in Multimodal LLMs (arXiv 2411.18620): the image as a whole reaches
the question in early layers, the object's patches in middle ones, the question the last position in late ones. The
study reads them off its figures; the definitions below are ours.

The effect of a layer is how much its knockout lowers the answer's probability: minus the mean relative change, in
percent. A layer stands out if its effect is at least `least_effect`, its interval excludes zero, and the sign-flip
test rejects "no effect" at `ALPHA` after Holm's correction over the curve's layers. A stage is supported if a layer
stands out; the largest such effect is its peak. The stage's layers are those whose effect is at least half of the peak
with an interval that excludes zero (they may be several ranges: some models inject twice). Layers are the curve's: with
a window of k layers around each, an event in one layer shows in k of them, with the same centre.

A stage's centre is the mean layer of its curve, weighted by what each effect has above half of the largest (so that
the many small effects elsewhere do not draw it to the middle, and no layer enters by a jump). It is computed again in
every resample of the images, the same for all three curves, which gives its interval and, for two stages, the share
of resamples in which one's centre lies before the other's: the support of their order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from xmflow_jax.analysis.bootstrap import resampled_means
from xmflow_jax.analysis.critical import layer_ranges
from xmflow_jax.analysis.curve import edges_of
from xmflow_jax.analysis.question_matrix import pathway_rows, question_matrix
from xmflow_jax.analysis.summary import Resampling, column_means

STAGES: Final[Mapping[str, str]] = {
    "general injection": "Image Without Central Object->Question",
    "specific injection": "Image Central Object->Question",
    "answer aggregation": "Question->Last",
}
# The styles that tell where something happens, the study's own first. The others block ever more layers.
LOCAL_STYLES: Final = ("centred", "single")
ALPHA: Final = 0.05
LEAST_EFFECT: Final = 5.0


@dataclass(frozen=True)
class Stage:
    """One stage in one task; without support only the reason, and what was measured.

    Attributes:
        style: the curve's window style, empty without a curve.
        window: layers blocked around each layer of the curve, 1 for style `single`; None where rows do not tell.
        reason: why the stage is not supported; empty where it is.
        layers: ranges (first, last) of the curve's layers.
        peak_layer: the layer that stands out most, or the largest effect where none does.
        peak_effect: percent that the answer's probability falls by there, with the ends of its interval.
        p_holm: of the peak layer.
        centre: of the curve (see above), with the ends of its interval.
        n: questions at the peak layer.
    """

    name: str
    pathway: str
    style: str
    supported: bool
    reason: str
    layers: tuple[tuple[int, int], ...] = ()
    peak_layer: int | None = None
    peak_effect: float | None = None
    peak_low: float | None = None
    peak_high: float | None = None
    p_holm: float | None = None
    centre: float | None = None
    centre_low: float | None = None
    centre_high: float | None = None
    n: int = 0
    window: int | None = None


@dataclass(frozen=True)
class Order:
    """The share of resamples (0 to 1) in which the first stage's centre lies in a lower layer than the second's."""

    first: str
    second: str
    support: float


@dataclass(frozen=True)
class TaskStages:
    """One task's three stages, and the order of each two that are supported.

    Attributes:
        together: the share of resamples in which all supported stages are in order; None for fewer than two.
    """

    task: str
    stages: tuple[Stage, ...]
    orders: tuple[Order, ...]
    together: float | None


def find_stages(
    rows: pd.DataFrame,
    summary: pd.DataFrame,
    resampling: Resampling | None = None,
    least_effect: float = LEAST_EFFECT,
) -> tuple[TaskStages, ...]:
    """The stages of every task of the summary.

    Args:
        rows: a run's rows.
        summary: `summarize` of these rows.
        resampling: how intervals are made; default: `Resampling()`.
        least_effect: percent that the answer's probability must fall by in the layer of a peak.
    """
    resampling = resampling or Resampling()
    rows = edges_of(pathway_rows(rows))
    found = []
    for task, table in edges_of(summary).groupby("task", sort=True):
        here = rows[rows["task"] == task]
        stages = [_stage(table, name, pathway, least_effect) for name, pathway in STAGES.items()]
        stages = [replace(stage, window=_window(here, stage)) for stage in stages]
        found.append(_ordered(str(task), stages, here, resampling))
    return tuple(found)


def centres(
    effects: Float[np.ndarray, "resamples layers"], layers: Float[np.ndarray, " layers"]
) -> Float[np.ndarray, " resamples"]:
    """Mean layer weighted by the effect above half of the largest; NaN where no effect is above zero."""
    effects = np.maximum(np.where(np.isnan(effects), 0.0, effects), 0.0)
    weights = np.maximum(effects - effects.max(axis=1, keepdims=True) / 2, 0.0)
    total = weights.sum(axis=1)
    return np.where(total > 0, weights @ layers / np.where(total > 0, total, 1.0), np.nan)


def _stage(table: pd.DataFrame, name: str, pathway: str, least_effect: float) -> Stage:
    curves = table[table["pathway"] == pathway]
    styles = [style for style in LOCAL_STYLES if (curves["style"] == style).any()]
    if not styles:
        reason = f"the run has no rows of {pathway} with windows {' or '.join(LOCAL_STYLES)}"
        return Stage(name, pathway, "", False, reason)
    curve = curves[curves["style"] == styles[0]].sort_values("layer")
    curve = curve.assign(effect=-curve["relative_change"], certain=curve["relative_change_high"] < 0)
    if curve["effect"].isna().all():
        return Stage(name, pathway, styles[0], False, f"no question has a relative change for {pathway}")
    outstanding = curve[(curve["effect"] >= least_effect) & curve["certain"] & _rejected(curve)]
    peak = (curve if outstanding.empty else outstanding).nlargest(1, "effect").iloc[0]
    effect, n = float(peak["effect"]), int(peak["n"])
    layers: tuple[tuple[int, int], ...] = ()
    if not outstanding.empty:
        reason, layers = "", layer_ranges(curve.loc[(curve["effect"] >= effect / 2) & curve["certain"], "layer"])
    elif effect < least_effect:
        reason = (
            f"no layer's knockout of {pathway} lowers the answer's probability by {least_effect:g} % on average "
            f"(largest: {effect:.1f} % in layer {int(peak['layer'])})"
        )
    else:
        reason = (
            f"no layer's effect of {pathway} of at least {least_effect:g} % is told from chance by {n} question"
            f"{'s' if n > 1 else ''} (largest: {effect:.1f} % in layer {int(peak['layer'])}, "
            f"corrected p = {peak['relative_change_p_holm']:.2g})"
        )
    return Stage(
        name=name,
        pathway=pathway,
        style=styles[0],
        supported=not outstanding.empty,
        reason=reason,
        layers=layers,
        peak_layer=int(peak["layer"]),
        peak_effect=effect,
        peak_low=_number(-peak["relative_change_high"]),
        peak_high=_number(-peak["relative_change_low"]),
        p_holm=_number(peak["relative_change_p_holm"]),
        n=n,
    )


def _rejected(curve: pd.DataFrame) -> "pd.Series[bool]":
    return curve["relative_change_p_holm"] <= ALPHA


def _window(rows: pd.DataFrame, stage: Stage) -> int | None:
    if stage.style == "single":
        return 1
    if not stage.style or "window" not in rows:
        return None
    own = (rows["pathway"] == stage.pathway) & (rows["style"] == stage.style)
    return int(rows.loc[own, "window"].iloc[0])


def _ordered(task: str, stages: list[Stage], rows: pd.DataFrame, resampling: Resampling) -> TaskStages:
    supported = [stage for stage in stages if stage.supported]
    curves = [(rows["pathway"] == stage.pathway) & (rows["style"] == stage.style) for stage in supported]
    here = rows[np.logical_or.reduce(curves)] if curves else rows[:0]
    if here.empty:
        return TaskStages(task, tuple(stages), (), None)
    matrix = question_matrix(here, ["relative_change"])
    means = resampled_means(-matrix.values["relative_change"], resampling.resamples, resampling.seed, matrix.images)
    found: dict[str, Float[np.ndarray, " resamples"]] = {}
    tail = (1 - resampling.confidence) / 2
    for place, stage in enumerate(stages):
        if not stage.supported:
            continue
        own = (matrix.columns["pathway"] == stage.pathway).to_numpy() & (matrix.columns["style"] == stage.style)
        layers = matrix.columns.loc[own, "layer"].to_numpy(np.float64)
        effects = -column_means(matrix.values["relative_change"][:, own])[None]
        found[stage.name] = centres(means[:, own], layers)
        low, high = np.nanquantile(found[stage.name], [tail, 1 - tail])
        centre = float(centres(effects, layers)[0])
        stages[place] = replace(stage, centre=centre, centre_low=float(low), centre_high=float(high))
    orders = tuple(
        Order(first, second, float((found[first] < found[second]).mean())) for first, second in combinations(found, 2)
    )
    together = None
    if len(found) > 1:
        together = float((np.diff(np.stack(list(found.values())), axis=0) > 0).all(axis=0).mean())
    return TaskStages(task, tuple(stages), orders, together)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
