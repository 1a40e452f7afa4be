"""From which layer on attention to the image can go, at a cost below a stated number of points.

Made from knockouts of `Image->All`: style `to-end` at layer l blocks all reading of the image in l and every later
layer, which is what dropping the image's positions from l on does.

A layer is proven if the upper confidence bound of its accuracy drop (`upper_bounds`) lies below the cost, there and in
every later layer. Going down from the last layer and stopping at the first that fails tests hypotheses in a fixed
order, so the statement as a whole has the confidence of each bound, with no correction. Over tasks every one must hold.
Layers that are skipped one at a time (style `single`, cross-attention models) are no such order: their bounds share
the error between them (Bonferroni).

Bounds know how few the questions are: no loss in 149 of 149, each about its own image, shows a cost below 2 points, 1
point takes 299. Questions that share images count as effective images (`upper_bounds`). What the
estimates alone would say is told beside it, as an estimate.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from xmflow_jax.analysis.bounded_mean import bound_of_agreeing, upper_bounds
from xmflow_jax.analysis.clusters import ROUNDING, effective_images, image_sums
from xmflow_jax.analysis.curve import Curve, edges_of
from xmflow_jax.analysis.model_shape import ModelShape, Saving, saving
from xmflow_jax.analysis.question_matrix import pathway_rows, question_matrix
from xmflow_jax.analysis.summary import Resampling
from xmflow_jax.run.row_words import EDGES

PATHWAY: Final = "Image->All"
TO_END: Final = "to-end"
SINGLE: Final = "single"
COST: Final = 2.0


def is_pruning(curve: Curve) -> bool:
    """Whether a curve's rows are those that the recommendation is made from."""
    return (curve.kind, curve.pathway, curve.style) == (EDGES, PATHWAY, TO_END)


@dataclass(frozen=True)
class LayerCost:
    """Percentage points of accuracy that the knockout at one layer costs: estimate and upper confidence bound."""

    layer: int
    n: int
    delta_accuracy: float
    upper: float


@dataclass(frozen=True)
class TaskPruning:
    """One task.

    Attributes:
        layer: `to-end`: the earliest layer from which the image can go, None where none is proven.
        layers: those in which the image need not be read, proven: all from `layer` on, or single ones.
        estimated_layer, estimated_layers: the same from the estimates alone, without confidence.
        least_provable: the smallest cost, in points, that so many questions about so many images can prove (no loss at
            all).
        images: that the questions are about.
        reason: why nothing is proven; empty where something is.
        evidence: every layer's cost.
    """

    task: str
    n: int
    layer: int | None
    layers: tuple[int, ...]
    estimated_layer: int | None
    estimated_layers: tuple[int, ...]
    least_provable: float
    reason: str
    evidence: tuple[LayerCost, ...]
    images: int


@dataclass(frozen=True)
class Pruning:
    """The recommendation over all tasks, and each task's.

    Attributes:
        style: of the rows it is made from; empty where there are none.
        cost: points that the accuracy may fall by, at most.
        confidence: of the statement, 0 to 1.
        cross_attention: the model reads the image by cross-attention; `layers` are then such layers.
        layer, layers, estimated_layer, estimated_layers: as in `TaskPruning`, those that hold in every task.
        saving: what leaving out `layers` saves (`single`: any one of them); None where nothing is proven or the model's
            shape is not known.
        reason: why nothing is proven for all tasks; empty where something is.
    """

    style: str
    cost: float
    confidence: float
    cross_attention: bool
    layer: int | None
    layers: tuple[int, ...]
    estimated_layer: int | None
    estimated_layers: tuple[int, ...]
    saving: Saving | None
    reason: str
    tasks: tuple[TaskPruning, ...]


def find_pruning(
    rows: pd.DataFrame,
    cost: float = COST,
    shape: ModelShape | None = None,
    resampling: Resampling | None = None,
) -> Pruning:
    """The pruning that a run's `Image->All` rows support.

    Args:
        rows: a run's rows, of questions that the base run answers correctly (others have little to lose).
        cost: percentage points of accuracy.
        shape: the model's; without it nothing is said of savings, and the image is taken to be in the prompt.
        resampling: how bounds are made; default: `Resampling()`.
    """
    resampling = resampling or Resampling()
    crossing = shape.cross_attention_layers if shape else ()
    here = edges_of(pathway_rows(rows[rows["pathway"] == PATHWAY]))
    styles = [style for style in (TO_END, *([SINGLE] if crossing else [])) if (here["style"] == style).any()]
    if crossing:
        here = here[here["layer"].isin(crossing)]
    style = styles[0] if styles else ""
    here = here[here["style"] == style]
    tasks = tuple(
        _task(str(name), of_task, style, cost, resampling) for name, of_task in here.groupby("task", sort=True)
    )
    if not tasks:
        wanted = f"{TO_END} or {SINGLE}" if crossing else TO_END
        reason = f"the run has no rows of {PATHWAY} with windows {wanted}"
        return Pruning(style, cost, resampling.confidence, bool(crossing), None, (), None, (), None, reason, ())
    layers = _in_all([task.layers for task in tasks])
    estimated = _in_all([task.estimated_layers for task in tasks])
    failed: dict[str, list[str]] = {}
    for task in tasks:
        if task.reason:
            failed.setdefault(task.reason, []).append(task.task)
    reasons = [f"{', '.join(names)}: {why}" for why, names in failed.items()]
    reason = "" if layers else "; ".join(reasons) or "no layer holds in every task"
    return Pruning(
        style=style,
        cost=cost,
        confidence=resampling.confidence,
        cross_attention=bool(crossing),
        layer=layers[0] if layers and style == TO_END else None,
        layers=layers,
        estimated_layer=estimated[0] if estimated and style == TO_END else None,
        estimated_layers=estimated,
        saving=_saving(shape, layers[:1] if style == SINGLE else layers),
        reason=reason,
        tasks=tasks,
    )


def _task(task: str, rows: pd.DataFrame, style: str, cost: float, resampling: Resampling) -> TaskPruning:
    rows = rows.assign(drop=rows["base_score"] - rows["knockout_score"])
    matrix = question_matrix(rows, ["drop", "base_score"])
    drop, layers = matrix.values["drop"], matrix.columns["layer"].to_numpy()
    n = (~np.isnan(drop)).sum(axis=0)
    delta = 100 * np.nansum(drop, axis=0) / n
    confidence = resampling.confidence
    if style == SINGLE:
        confidence = 1 - (1 - confidence) / len(layers)
    upper = 100 * upper_bounds(drop, 1.0, confidence, resampling.resamples, resampling.seed, matrix.images)
    proven, estimated = upper < cost - ROUNDING, delta < cost - ROUNDING
    if style == TO_END:  # there and in every later layer
        proven, estimated = (np.logical_and.accumulate(held[::-1])[::-1] for held in (proven, estimated))
    most = image_sums(drop[:, [n.argmax()]], matrix.images)[1][:, 0]  # questions of each image
    least = 100 * float(bound_of_agreeing(np.zeros(1), effective_images(most), 1.0, confidence)[0])
    images = int((most > 0).sum())
    asked = f"{n.max()} questions" + (f" on {images} images" if images < n.max() else "")
    base = 100 * float(np.nanmean(matrix.values["base_score"]))
    if base <= cost:
        reason = f"the base run's accuracy is {base:.1f} %, so there is no more to lose than the stated cost"
        proven, estimated = np.zeros_like(proven), np.zeros_like(estimated)
    elif proven.any():
        reason = ""
    elif least >= cost:
        reason = f"{asked} cannot show a cost below {least:.1f} points, even if none is lost"
    else:
        # to-end: the last layer is where every proof starts
        best = len(layers) - 1 if style == TO_END else int(np.argmin(upper))
        reason = f"layer {layers[best]} alone may cost up to {upper[best]:.1f} points"
    held = tuple(int(layer) for layer in layers[proven])
    likely = tuple(int(layer) for layer in layers[estimated])
    costs = zip(layers, n, delta, upper, strict=True)
    return TaskPruning(
        task=task,
        n=int(n.max()),
        layer=held[0] if held and style == TO_END else None,
        layers=held,
        estimated_layer=likely[0] if likely and style == TO_END else None,
        estimated_layers=likely,
        least_provable=least,
        reason=reason,
        evidence=tuple(LayerCost(int(layer), int(m), float(d), float(u)) for layer, m, d, u in costs),
        images=images,
    )


def _in_all(layers: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted(set.intersection(*(set(some) for some in layers))))


def _saving(shape: ModelShape | None, layers: tuple[int, ...]) -> Saving | None:
    if shape is None or not layers:
        return None
    return saving(shape, layers if shape.cross_attention_layers else range(layers[0], shape.layers))
