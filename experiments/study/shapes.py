"""What is told of the study's curves, as checks with tolerances written down before any run on published weights.

The figures are those of LLaVA-1.5-13B as secondary sources tell them; the paper itself was not at hand. Statements that
compare two curves are asked of all four models, though the sources tell them of that one. Layers are given as shares of
the depth, so that a model of another depth can be asked the same. A check is decided by the run's own intervals, made
wide enough to hold in all the layers that it looks at together: what they leave open is said to be open.

Changed on 2026-11-27, before any run on published weights: intervals had held for each layer by itself, and of two
curves any difference counted; the 7B model's weaker first dip had not been judged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

Outcome = Literal["reproduced", "not reproduced", "not decidable"]
REPRODUCED: Final[Outcome] = "reproduced"
NOT: Final[Outcome] = "not reproduced"
OPEN: Final[Outcome] = "not decidable"

FIRST, MIDDLE, ALL = (0.0, 0.15), (0.35, 0.65), (0.0, 1.0)
QUESTION_LAST, IMAGE_LAST, LAST_LAST = "Question->Last", "Image->Last", "Last->Last"
IMAGE_QUESTION: Final = "Image->Question"
OBJECT, OTHERS = "Image Central Object->Question", "Image Without Central Object->Question"

# Percent by which one of two curves must lie below the other to count.
LEAST_DIFFERENCE: Final = 5.0
# What a run's intervals miss, in either direction.
_MISSED: Final = 0.025


@dataclass(frozen=True)
class Curve:
    """One pathway's relative change of the answer's probability, layer by layer, in percent, with its interval."""

    change: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def within(self, depth: tuple[float, float]) -> "Curve":
        """The layers from one share of the depth to another, at least one."""
        count = len(self.change)
        first = min(int(depth[0] * count), count - 1)
        last = max(first + 1, int(np.ceil(depth[1] * count)))
        return Curve(self.change[first:last], self.low[first:last], self.high[first:last])

    def together(self, layers: int) -> "Curve":
        """With intervals of 95 % for so many layers together (Bonferroni): each interval's two halves stretched by the
        ratio of the normal distribution's quantiles."""
        stretch = ndtri(1 - _MISSED / layers) / ndtri(1 - _MISSED)
        low, high = (self.change + stretch * (end - self.change) for end in (self.low, self.high))
        return Curve(self.change, low, high)


Curves = dict[str, Curve]


@dataclass(frozen=True)
class Shape:
    """One statement about a model's curves in one task.

    Attributes:
        text: the statement.
        source: who tells it.
        models: names of the models that it is about; empty: all.
        pathways: whose curves it needs.
        decide: from these curves, in this order.
        beside: the model whose curves of the same pathways, in the same task, come before its own; None: its own alone.
    """

    text: str
    source: str
    models: tuple[str, ...]
    pathways: tuple[str, ...]
    decide: Callable[[Sequence[Curve]], Outcome]
    beside: str | None = None


def dips(depth: tuple[float, float], to: float) -> Callable[[Sequence[Curve]], Outcome]:
    """Somewhere in these layers the change is `to` percent or less."""

    def decide(curves: Sequence[Curve]) -> Outcome:
        own = curves[0].within(depth)
        own = own.together(len(own.change))
        if (own.high <= to).any():
            return REPRODUCED
        return NOT if (own.low > to).all() else OPEN

    return decide


def stays(within: float) -> Callable[[Sequence[Curve]], Outcome]:
    """In no layer is the change larger than so many percent, in either direction."""

    def decide(curves: Sequence[Curve]) -> Outcome:
        own = curves[0].together(len(curves[0].change))
        if (own.low > within).any() or (own.high < -within).any():
            return NOT
        return REPRODUCED if (own.low >= -within).all() and (own.high <= within).all() else OPEN

    return decide


def deeper(depth: tuple[float, float], least: float = LEAST_DIFFERENCE) -> Callable[[Sequence[Curve]], Outcome]:
    """In these layers the first curve's lowest point lies below the second curve's, by `least` percent or more."""

    def decide(curves: Sequence[Curve]) -> Outcome:
        one, other = (curve.within(depth) for curve in curves)
        # Either lowest point may be any of its layers.
        layers = len(one.change) + len(other.change)
        one, other = one.together(layers), other.together(layers)
        # Whatever the layer, a curve's lowest point lies between the lowest ends of its intervals.
        if one.high.min() <= other.low.min() - least:
            return REPRODUCED
        return NOT if one.low.min() > other.high.min() - least else OPEN

    return decide


_SECONDARY: Final = "secondary sources, of LLaVA-1.5-13B"
_THIRTEEN: Final = ("LLaVA-1.5-13B",)
_PAPER: Final = "secondary sources, of LLaVA-1.5-13B; asked of all four models here"

SHAPES: Final = (
    Shape(
        "Question->Last costs 20 % or more around the middle of the depth",
        f"{_SECONDARY}: about -30 % around layers 15 to 25 of 40",
        _THIRTEEN,
        (QUESTION_LAST,),
        dips((0.35, 0.65), -20.0),
    ),
    Shape(
        "Image->Last never costs more than 15 %",
        f"{_SECONDARY}: about -5 %",
        _THIRTEEN,
        (IMAGE_LAST,),
        stays(15.0),
    ),
    Shape("Last->Last changes nothing beyond 5 %", f"{_SECONDARY}: about 0", _THIRTEEN, (LAST_LAST,), stays(5.0)),
    Shape(
        "Image->Question costs 40 % or more in the first layers",
        f"{_SECONDARY}: about -60 % in layers 0 to 4",
        _THIRTEEN,
        (IMAGE_QUESTION,),
        dips(FIRST, -40.0),
    ),
    Shape(
        "Image->Question costs 10 % or more again at a quarter of the depth",
        f"{_SECONDARY}: about -21 % near layer 10",
        _THIRTEEN,
        (IMAGE_QUESTION,),
        dips((0.18, 0.35), -10.0),
    ),
    Shape(
        "In the first layers the patches outside the object matter more than the object's",
        _PAPER,
        (),
        (OTHERS, OBJECT),
        deeper(FIRST),
    ),
    Shape(
        "At a quarter of the depth the object's patches matter more than the others",
        _PAPER,
        (),
        (OBJECT, OTHERS),
        deeper((0.18, 0.4)),
    ),
    Shape(
        "Around the middle of the depth Question->Last matters more than Image->Last",
        _PAPER,
        (),
        (QUESTION_LAST, IMAGE_LAST),
        deeper(MIDDLE),
    ),
    Shape(
        "The first dip of Image->Question is weaker than LLaVA-1.5-13B's",
        "secondary sources, of LLaVA-1.5-7B",
        ("LLaVA-1.5-7B",),
        (IMAGE_QUESTION,),
        deeper(FIRST),
        beside="LLaVA-1.5-13B",
    ),
)


def curves_of(summary: pd.DataFrame, task: str) -> Curves:
    """One task's curves by pathway, from a run's summary: centred windows alone."""
    own = summary[(summary["task"] == task) & (summary["style"] == "centred")]
    columns = ("relative_change", "relative_change_low", "relative_change_high")
    return {
        str(pathway): Curve(*(rows.sort_values("layer")[column].to_numpy(np.float64) for column in columns))
        for pathway, rows in own.groupby("pathway")
    }


def judge(shape: Shape, model: str, curves: Mapping[str, Curves]) -> Outcome | None:
    """What a task's curves say of a shape; None where it is about another model, or the task lacks a pathway, or the
    model beside it has not been run.

    Intervals that are missing, as with a single question, leave it open.

    Args:
        curves: the task's, of every model that has been run.
    """
    if shape.models and model not in shape.models:
        return None
    names = [model] if shape.beside is None else [shape.beside, model]
    if any(pathway not in curves.get(name, {}) for name in names for pathway in shape.pathways):
        return None
    asked = [curves[name][pathway] for name in names for pathway in shape.pathways]
    if any(not np.isfinite([curve.low, curve.high]).all() for curve in asked):
        return OPEN
    return shape.decide(asked)
