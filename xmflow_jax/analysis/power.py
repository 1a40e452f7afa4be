"""How small a loss of accuracy a run could have seen, and how many questions a smaller one would need.

Seen means that the sign-flip test of a layer (`xmflow_jax.analysis.permutation`, uncorrected) rejects "no effect".
Where no answer is gained by a knockout, flips other than all or none come nowhere near: the test counts the images that
lose anything, six of them at 95 %, and their number is binomial. Where some are gained, its null spread is that of the
images' sums about zero, their spread under the effect that about the mean, and n questions see a loss d where

    sqrt(n) d = z sqrt(v + d^2 k) + z' sqrt(v)

with the normal quantiles z of the confidence and z' of the power, k questions about the image of an average question,
and v the variance of a question's loss times the design effect. For right and wrong, each about its own image, this is
Connor's sample size for McNemar's test (1987, Biometrics 43). How often answers are gained, how much is lost and the
design effect are those of the run, over all its curves and layers.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import betaincinv, gammaincinv  # type: ignore[import-untyped]

from xmflow_jax.analysis.clusters import ROUNDING, effective_images, image_sums, mean_variances
from xmflow_jax.analysis.curve import edges_of
from xmflow_jax.analysis.question_matrix import pathway_rows, question_matrix
from xmflow_jax.analysis.summary import Resampling

POWER: Final = 0.8
# Percentage points for which the number of questions is told.
SMALL_LOSS: Final = 2.0


@dataclass(frozen=True)
class Noise:
    """What hides a loss of accuracy; scores are 0 to 1.

    Attributes:
        lost_size: how much a question that loses anything loses, weighted by that: the mean of squared losses over the
            mean loss. 1 where answers are right or wrong.
        lost_on_image: how much the questions of an image that loses anything lose together, on average.
        gained: mean gain over all questions.
        gained_square: mean of squared gains over all questions.
        design_effect: at least 1.
        image_size: questions about the image of an average question.
    """

    lost_size: float = 1.0
    lost_on_image: float = 1.0
    gained: float = 0.0
    gained_square: float = 0.0
    design_effect: float = 1.0
    image_size: float = 1.0

    def needed(self, loss: float, confidence: float, power: float = POWER) -> float:
        """Questions that see a loss (0 to 1, above 0) in the share `power` of runs."""
        if self.gained <= ROUNDING:
            return float(gammaincinv(least_images(confidence), power)) * self.lost_on_image / loss
        square = self.lost_size * (loss + self.gained) + self.gained_square
        variance = self.design_effect * max(square - loss**2, 0.0)
        chance, seen = (NormalDist().inv_cdf(share) for share in ((1 + confidence) / 2, power))
        root = chance * math.sqrt(variance + loss**2 * self.image_size) + seen * math.sqrt(variance)
        return (root / loss) ** 2


@dataclass(frozen=True)
class Power:
    """What one task's questions could have shown.

    Attributes:
        questions, images: of the task.
        design_effect: of the loss of accuracy, over curves and layers; None where it is not known, since nothing was
            lost or gained that images could share. Questions of one image are then taken as one.
        smallest_loss: percentage points that the run would have seen in one layer; None: no loss at all.
        needed: questions, at as many an image, that would see `small_loss` points.
    """

    task: str
    questions: int
    images: int
    design_effect: float | None
    confidence: float
    power: float
    smallest_loss: float | None
    small_loss: float
    needed: int


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
        noise, known = observed_noise(matrix.values["loss"], matrix.images)
        questions, images = len(matrix.questions), int(matrix.images.max()) + 1
        smallest = smallest_loss(noise, questions, images, confidence)
        found.append(
            Power(
                task=str(task),
                questions=questions,
                images=images,
                design_effect=noise.design_effect if known else None,
                confidence=confidence,
                power=POWER,
                smallest_loss=None if smallest is None else 100 * smallest,
                small_loss=SMALL_LOSS,
                needed=math.ceil(noise.needed(SMALL_LOSS / 100, confidence)),
            )
        )
    return tuple(found)


def least_images(confidence: float) -> int:
    """Images whose sums all have one sign that the test tells from chance: of 2^images flips 2 are as far from zero."""
    return math.ceil(1 - math.log2(1 - confidence) - ROUNDING)


def smallest_loss(noise: Noise, questions: int, images: int, confidence: float, power: float = POWER) -> float | None:
    """The loss (0 to 1) that so many questions see in the share `power` of runs; None where they see none."""
    least = least_images(confidence)
    if images < least:
        return None
    if noise.gained <= ROUNDING:
        share = float(betaincinv(least, images - least + 1, power))  # of images, for `least` of them to lose
        loss = share * images * noise.lost_on_image / questions
        return loss if loss <= 1 else None
    if noise.needed(1.0, confidence, power) > questions:
        return None
    return float(brentq(lambda loss: noise.needed(loss, confidence, power) - questions, 1e-6, 1.0))


def observed_noise(
    losses: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"]
) -> tuple[Noise, bool]:
    """Of the losses of all columns together, and whether these tell the design effect.

    Args:
        losses: of scores, -1 to 1; NaN where a question has none.
        images: a number for each question's image.
    """
    lost, gained = np.fmax(losses, 0.0), np.fmax(-losses, 0.0)  # NaN becomes 0
    number = max(int((~np.isnan(losses)).sum()), 1)
    sizes = image_sums(np.zeros((len(images), 1)), images)[1][:, 0]
    size = len(images) / effective_images(sizes)
    losing = int((image_sums(lost, images)[0] > ROUNDING).sum())
    clustered, independent = (np.nansum(part) for part in mean_variances(losses, images))
    known = len(sizes) > 1 and independent > ROUNDING**2
    return (
        Noise(
            # Where nothing is lost, as if an image's questions were lost together.
            lost_on_image=float(lost.sum() / losing) if losing else size,
            lost_size=float((lost**2).sum() / lost.sum()) if lost.sum() > ROUNDING else 1.0,
            gained=float(gained.sum() / number),
            gained_square=float((gained**2).sum() / number),
            design_effect=max(float(clustered / independent), 1.0) if known and size > 1 else size,
            image_size=size,
        ),
        bool(known or size == 1),
    )
