"""A one-sided bound of a bounded mean that holds for few questions and rare losses, where the bootstrap's does not.

0 of 40 questions lost, each about its own image, says that at most 7.2 % of all are lost (95 %), while no resample of
those 40 loses any. A cost may be called "below one point" only by a bound that knows this.
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Int

from xmflow_jax.analysis.bootstrap import CONFIDENCE, RESAMPLES
from xmflow_jax.analysis.clusters import ROUNDING, effective_images, image_sums
from xmflow_jax.analysis.question_matrix import columns_by_questions

_CHUNK: Final = 2**22


def upper_bounds(
    values: Float[np.ndarray, "questions columns"],
    most: float,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    images: Int[np.ndarray, " questions"] | None = None,
) -> Float[np.ndarray, " columns"]:
    """Upper confidence bound of each column's mean; `most` where no question has a value.

    Gaffke's bound (2005; Learned-Miller and Thomas 2020, arXiv 1905.06208): the quantile of the mean under random
    (Dirichlet) weights of the questions and of one more that has the largest possible value. For values of right
    and wrong it is the Clopper-Pearson bound, exactly but for the weights being drawn; for other bounded values no
    distribution is known in which it holds less often than it says, and its use rests on that and our simulations.
    Where questions share images, images get the weights; the one more has as many questions as the image of an
    average question (the sum of the squared numbers of questions over their sum), so that what counts is the number
    of effective images.

    Args:
        values: none above `most`; NaN where a question has no value.
        images: a number for each question's image (`image_codes`); None: every question has its own.
    """
    result = np.full(values.shape[1], most)
    for questions, some in columns_by_questions(values):
        if not questions.any():
            continue
        here = values[np.ix_(questions, some)]
        sums, sizes = image_sums(here, None if images is None else images[questions])
        result[some] = np.quantile(_weighted_means(sums, sizes[:, 0], most, resamples, seed), confidence, axis=0)
        agreed = np.ptp(sums / sizes, axis=0) <= ROUNDING
        common, n = (sums / sizes)[0, agreed], effective_images(sizes[:, 0])
        result[some[agreed]] = bound_of_agreeing(common, n, most, confidence)
    return result


def bound_of_agreeing(
    value: Float[np.ndarray, " columns"], n: float, most: float, confidence: float = CONFIDENCE
) -> Float[np.ndarray, " columns"]:
    """The same bound, in closed form, where all `n` effective images have the same value."""
    return most - (most - value) * (1 - confidence) ** (1 / n)


def _weighted_means(
    sums: Float[np.ndarray, "images columns"],
    sizes: Float[np.ndarray, " images"],
    most: float,
    resamples: int,
    seed: int,
) -> Float[np.ndarray, "resamples columns"]:
    n, columns = sums.shape
    random = np.random.default_rng([seed, 2])
    # With the questions of one more image, the largest possible value each.
    sizes = np.append(sizes, (sizes**2).sum() / sizes.sum())
    means, some = np.empty((resamples, columns)), max(_CHUNK // (n + 1), 1)
    for start in range(0, resamples, some):
        stop = min(start + some, resamples)
        weights = random.standard_exponential((stop - start, n + 1))
        total = (weights * sizes).sum(axis=1, keepdims=True)
        means[start:stop] = (weights[:, :n] @ sums + most * sizes[n] * weights[:, n:]) / total
    return means
