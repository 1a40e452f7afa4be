"""How small a loss of accuracy a run could have seen, and how many questions a smaller one would need.

Seen means that the sign-flip test of a layer (`xmflow_jax.analysis.permutation`, uncorrected) rejects "no effect". How
often it does is counted in runs drawn like this one (`xmflow_jax.analysis.simulated_runs`), with more or fewer answers
lost: a formula by the normal distribution is up to 1.9 times off where few answers are gained and questions share
images, since a few images decide there. Where answers changed on hardly any image, like runs cannot be drawn, and no
number is told.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from xmflow_jax.analysis.clusters import ROUNDING, image_sums, mean_variances
from xmflow_jax.analysis.curve import edges_of
from xmflow_jax.analysis.question_matrix import pathway_rows, question_matrix
from xmflow_jax.analysis.simulated_runs import Alike, alike_images, image_losses, seen
from xmflow_jax.analysis.summary import Resampling

POWER: Final = 0.8
# Percentage points for which the number of questions is told.
SMALL_LOSS: Final = 2.0
# Images with a changed answer that a run needs for its own losses and gains to be known.
LEAST_CHANGED: Final = 10
# Numbers are found to within this share of themselves; the simulation is no closer.
_CLOSE: Final = 0.01
# Images of which the normal distribution is good enough for the number of questions that a small loss needs.
_MOST_IMAGES: Final = 1500


@dataclass(frozen=True)
class Power:
    """What one task's questions could have shown.

    Attributes:
        questions, images: of the task.
        changed: images of which an answer was lost or gained by any knockout.
        design_effect: of the loss of accuracy, over curves and layers; None where it is not known, since nothing was
            lost or gained that images could share.
        smallest_loss: percentage points that the run would have seen in one layer; None: no loss at all, or, where
            `known` is False, nobody can tell.
        needed: questions, at as many an image, that would see `small_loss` points; None: nobody can tell.
    """

    task: str
    questions: int
    images: int
    changed: int
    design_effect: float | None
    confidence: float
    power: float
    smallest_loss: float | None
    small_loss: float
    needed: int | None

    @property
    def known(self) -> bool:
        """Whether enough answers changed to tell what a run could have seen."""
        return self.changed >= LEAST_CHANGED


def find_power(rows: pd.DataFrame, resampling: Resampling | None = None) -> tuple[Power, ...]:
    """Of every task that has rows of blocked edges, from these rows.

    Args:
        rows: a run's rows.
        resampling: for its confidence; default: `Resampling()`.
    """
    confidence = (resampling or Resampling()).confidence
    rows = edges_of(pathway_rows(rows))
    rows = rows.assign(loss=rows["base_score"] - rows["knockout_score"])
    found = []
    for task, here in rows.groupby("task", sort=True):
        matrix = question_matrix(here, ["loss"])
        found.append(power_of(str(task), matrix.values["loss"], matrix.images, confidence))
    return tuple(found)


def power_of(
    task: str,
    losses: Float[np.ndarray, "questions columns"],
    images: Int[np.ndarray, " questions"],
    confidence: float,
) -> Power:
    """What questions could have shown whose answers changed like this.

    Args:
        losses: of scores, -1 to 1, by every knockout; NaN where a question has none.
        images: a number for each question's image.
    """
    sums, sizes = image_sums(np.abs(np.nan_to_num(losses)), images)
    changed, questions = int((sums > ROUNDING).any(axis=1).sum()), len(images)
    smallest = needed = None
    if changed >= LEAST_CHANGED:
        groups = alike_images(losses, images)
        smallest = smallest_loss(groups, confidence)
        needed = questions_needed(groups, SMALL_LOSS / 100, confidence)
    return Power(
        task=task,
        questions=questions,
        images=len(sizes),
        changed=changed,
        design_effect=_design_effect(losses, images),
        confidence=confidence,
        power=POWER,
        smallest_loss=None if smallest is None else 100 * smallest,
        small_loss=SMALL_LOSS,
        needed=None if needed is None else math.ceil(needed),
    )


def least_images(confidence: float) -> int:
    """Images whose sums all have one sign that the test tells from chance: of 2^images flips 2 are as far from zero."""
    return math.ceil(1 - math.log2(1 - confidence) - ROUNDING)


def smallest_loss(groups: Sequence[Alike], confidence: float, power: float = POWER) -> float | None:
    """The loss (0 to 1) that such questions see in the share `power` of runs; None where they see none.

    Args:
        groups: of at least some of which something was lost.
    """
    if sum(len(group.sizes) for group in groups) < least_images(confidence):
        return None
    most = _most_times(groups)
    if most is None or seen(image_losses(groups, most), confidence) < power:
        return None
    times = _crossing(lambda times: seen(image_losses(groups, times), confidence) - power, most / 1e6, most)
    return _mean_loss(groups, times)


def questions_needed(groups: Sequence[Alike], loss: float, confidence: float, power: float = POWER) -> float | None:
    """Questions, at as many an image, that see a loss (0 to 1) in the share `power` of runs; None: no number does.

    Args:
        groups: of at least some of which something was lost.
    """
    most = _most_times(groups)
    if most is None or _mean_loss(groups, most) < loss:
        return None
    times = _crossing(lambda times: _mean_loss(groups, times) - loss, most / 1e6, most)
    each = float(sum(group.sizes.sum() for group in groups) / sum(len(group.sizes) for group in groups))

    def lacking(images: float) -> float:
        return seen(image_losses(resized(groups, round(images)), times), confidence) - power

    images = 2 * least_images(confidence)
    while images < _MOST_IMAGES:
        if lacking(images) >= 0:
            return each * _crossing(lacking, images / 2, images)
        images *= 2
    # Connor (1987, Biometrics 43) for McNemar's test; here with any sums: spread about zero, and about the mean.
    square = float((image_losses(resized(groups, images), times) ** 2).mean())
    chance, found = (NormalDist().inv_cdf(share) for share in ((1 + confidence) / 2, power))
    root = chance * math.sqrt(square) + found * math.sqrt(max(square - (loss * each) ** 2, 0.0))
    return each * (root / (loss * each)) ** 2


def resized(groups: Sequence[Alike], images: int) -> list[Alike]:
    """The same for another number of images, of each group its share."""
    ends = np.rint(np.cumsum([len(group.sizes) for group in groups]) / sum(len(one.sizes) for one in groups) * images)
    numbers = np.diff(np.r_[0, ends]).astype(int)
    # Sizes lie in the order of images, which may be any; every share of them shall be like the whole.
    return [
        replace(group, sizes=np.resize(np.random.default_rng(0).permutation(group.sizes), number))
        for group, number in zip(groups, numbers, strict=True)
        if number
    ]


def _mean_loss(groups: Sequence[Alike], times: float) -> float:
    return float(image_losses(groups, times).mean(axis=1).sum() / sum(group.sizes.sum() for group in groups))


def _most_times(groups: Sequence[Alike]) -> float | None:
    """So many times the run's loss that every image loses what it can; None where the run lost nothing."""
    rates = [group.lost.rate for group in groups if group.lost.rate > 0]
    return 1.0 + 20.0 / min(rates) if rates else None


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a growing function becomes positive, which it is at `high`, by halving in the logarithm."""
    while high > low * (1 + _CLOSE):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high


def _design_effect(
    losses: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"]
) -> float | None:
    """Of all columns together, at least 1; None where nothing tells."""
    sizes = image_sums(np.zeros((len(images), 1)), images)[1]
    if sizes.max(initial=0) <= 1:
        return 1.0
    clustered, independent = (np.nansum(part) for part in mean_variances(losses, images))
    return max(float(clustered / independent), 1.0) if independent > ROUNDING**2 else None
