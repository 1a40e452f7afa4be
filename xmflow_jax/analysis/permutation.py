"""Sign-flip permutation tests of paired effects, and Holm's correction.

Null hypothesis: a knockout moves the values of an image's questions, summed, up as often and as far as down. Then every
image's sign can be flipped, with those of all its questions together, and the p-value is the share of flips whose mean
is at least as far from zero as the one observed. For answers that are right or wrong, each about its own image, this is
McNemar's exact test.
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Int

from xmflow_jax.analysis.clusters import image_sums
from xmflow_jax.analysis.question_matrix import columns_by_questions

DRAWS: Final = 9_999
# Up to so many images all 2^n flips are tried, which are fewer than the draws.
EXACT_IMAGES: Final = 13
_CHUNK: Final = 2**22


def sign_flip_p_values(
    values: Float[np.ndarray, "questions columns"],
    draws: int = DRAWS,
    seed: int = 0,
    images: Int[np.ndarray, " questions"] | None = None,
) -> Float[np.ndarray, " columns"]:
    """Two-sided p-value of each column's mean being zero, from the questions that have a value in it.

    Exact for up to `EXACT_IMAGES` images. With more, flips are drawn and the observed one counts as one of them,
    `(1 + count) / (1 + draws)`, so that the p-value is valid and never 0 (Phipson and Smyth 2010). NaN where no
    question has a value; 1 where all are about one image. No p-value is below 2 / 2^images.

    Args:
        values: differences, NaN where a question has none.
        images: a number for each question's image (`image_codes`); None: every question has its own.
    """
    result = np.full(values.shape[1], np.nan)
    for questions, some in columns_by_questions(values):
        if questions.any():
            sums, _ = image_sums(values[np.ix_(questions, some)], None if images is None else images[questions])
            result[some] = _p_values(sums, draws, seed)
    return result


def holm(p_values: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """Holm's step-down adjustment (1979): those at most alpha are rejected with a family-wise error of at most alpha.

    NaN is no test: it stays NaN and does not count.
    """
    adjusted = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values, kind="stable")  # NaN last
    order = order[: int((~np.isnan(p_values)).sum())]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _p_values(values: Float[np.ndarray, "images columns"], draws: int, seed: int) -> Float[np.ndarray, " columns"]:
    n = len(values)
    # Sums in another order differ in their last digits: a flip that is as far from zero must count as such.
    least = np.abs(values.sum(axis=0)) - 1e-9 * np.abs(values).sum(axis=0)
    if n <= EXACT_IMAGES:
        flips = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return np.asarray((np.abs(flips @ values) >= least).mean(axis=0))
    random = np.random.default_rng([seed, 1])
    some, count = max(_CHUNK // n, 1), np.zeros(values.shape[1])
    for start in range(0, draws, some):
        flips = 1.0 - 2.0 * random.integers(2, size=(min(some, draws - start), n))
        count += (np.abs(flips @ values) >= least).sum(axis=0)
    return (1 + count) / (1 + draws)
