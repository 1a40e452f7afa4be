"""Which questions share an image, and what that does to a mean's variance.

Questions about one image tend to be answered alike, so that eight of them say less than eight about eight images
(5,525 of the study's questions are about 3,818 images). A mean over questions is therefore taken as a ratio of sums
over images, and images, not questions, are what is resampled, flipped and counted: the cluster bootstrap (Davison and
Hinkley 1997, Bootstrap Methods and their Application, section 3.8; Cameron, Gelbach and Miller 2008).

With few images the spread of what was seen is too small, and varies from run to run, the more so if a few images have
many of the questions. Both are corrected by what they are expected to be where two questions about one image correlate
as they do (`small_sample`): the variance is multiplied by what makes it right on average, and Student's quantile has
the degrees of freedom that give its own variance (Satterthwaite 1946; Bell and McCaffrey 2002, Survey Methodology 28;
with the estimated correlation, as Imbens and Kolesar 2016, Review of Economics and Statistics 98). Of images with
equally many questions these are n / (n - 1) and n - 1.

Where all questions agree nothing has a spread; *effective images* are counted there (Kish 1965, Survey Sampling): the
square of the number of questions over the sum of the squared numbers of questions of each image.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Num

# The column of rows that names a question's image.
IMAGE: Final = "image_id"

# Scores such as VQA's 0.3 and 0.6 are no binary fractions: differences below this are none.
ROUNDING: Final = 1e-9


def image_codes(names: "Sequence[str | None] | pd.Series[Any]") -> Int[np.ndarray, " questions"]:
    """A number for each question's image, counted from 0 in the order in which images come.

    A question without an image's name (None, NaN or empty) is taken as one of an image of its own: nothing says that it
    shares one.

    Args:
        names: the image of each question.
    """
    numbers: dict[object, int] = {}
    # A tuple is no text, so that a question's place cannot be mistaken for an image's name.
    keys = ((place,) if pd.isna(name) or name == "" else name for place, name in enumerate(names))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def image_sums(
    values: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"] | None
) -> tuple[Float[np.ndarray, "images columns"], Float[np.ndarray, "images columns"]]:
    """Each image's sum of its questions' values, and how many of them have one.

    Args:
        values: NaN where a question has no value.
        images: any number for each question's image; None: every question has its own.

    Returns:
        images in the order in which they come. Where every question has its own these are the values themselves,
        to the last bit.
    """
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    if images is None:
        return filled, known.astype(np.float64)
    codes = pd.factorize(images)[0]
    if codes.max(initial=-1) == len(codes) - 1:  # all differ
        return filled, known.astype(np.float64)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) > 0])
    return np.add.reduceat(filled[order], starts), np.add.reduceat(known[order].astype(np.float64), starts)


def effective_images(sizes: Num[np.ndarray, " images"]) -> float:
    """Kish's effective number of images with so many questions: their number if all have equally many, else fewer."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def image_correlations(
    values: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"] | None
) -> Float[np.ndarray, " columns"]:
    """The correlation of two questions about one image in each column, 0 to 1; 0 where nothing tells it."""
    sums, sizes = image_sums(values, images)
    n = sizes.sum(axis=0)
    mean = sums.sum(axis=0) / np.maximum(n, 1)
    squares = np.nansum((values - mean) ** 2, axis=0)
    pairs = (sizes * (sizes - 1)).sum(axis=0)
    told = (pairs > 0) & (squares > ROUNDING**2)
    products = ((sums - sizes * mean) ** 2).sum(axis=0) - squares
    return np.clip(np.where(told, products / np.where(told, pairs * squares / np.maximum(n, 1), 1.0), 0.0), 0.0, 1.0)


def small_sample(
    sizes: Float[np.ndarray, "images columns"], correlation: Float[np.ndarray, " columns"]
) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " columns"]]:
    """(degrees of freedom of the plug-in variance of a mean, what to multiply it with), of images with such sizes.

    The plug-in variance is the sum of the squares of images' residual sums, a quadratic form in their sums. Mean and
    variance of that form follow from the variances of the sums, d = m (1 + (m - 1) r) for m questions that correlate
    by r, up to a factor. NaN or infinity where fewer than two images have a question.
    """
    u = sizes / np.maximum(sizes.sum(axis=0), 1)
    d = sizes * (1 + (sizes - 1) * correlation)
    s, a, b, c = d.sum(axis=0), (u * u).sum(axis=0), (u * d).sum(axis=0), (d * d).sum(axis=0)
    # Of the matrix diag(d) - u d' - d u' + s u u': its trace, and that of its square.
    trace = s - 2 * b + s * a
    crossed = (u * u * d).sum(axis=0) * s - 2 * (u * d * d).sum(axis=0)
    square = c + 2 * crossed + 2 * (b * b + a * c) - 4 * s * a * b + (s * a) ** 2
    count = (sizes > 0).sum(axis=0)
    equal = sizes.max(axis=0, initial=0) * count == sizes.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # To the last bit what they are for images with equally many questions.
        return np.where(equal, count - 1.0, trace**2 / square), np.where(equal, count / (count - 1.0), s / trace)


def design_effects(
    values: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"] | None
) -> Float[np.ndarray, " columns"]:
    """The variance of each column's mean over the one that it would have if no two questions shared an image.

    1 where every question has its own image; else NaN where there are fewer than two images, or all questions agree.
    It is an estimate: with few images it may be far off, and below 1 by chance.
    """
    clustered, independent = mean_variances(values, images)
    own = image_sums(values, images)[1].max(axis=0, initial=0.0) <= 1
    varied = independent > ROUNDING**2
    effect = np.where(varied, clustered / np.where(varied, independent, 1.0), np.nan)
    return np.where(own & ~np.isnan(clustered), 1.0, effect)


def mean_variances(
    values: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"] | None
) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " columns"]]:
    """Estimated variance of each column's mean: with questions of one image together, and as if all were independent.

    NaN where fewer than two images have a value, whatever the number of questions.
    """
    return _variances(values, images), _variances(values, None)


def _variances(
    values: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"] | None
) -> Float[np.ndarray, " columns"]:
    sums, sizes = image_sums(values, images)
    n, count = sizes.sum(axis=0), (sizes > 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        residuals = sums - sizes * (sums.sum(axis=0) / n)
        _, inflation = small_sample(sizes, image_correlations(values, images))
        variance = (residuals**2).sum(axis=0) / n**2 * inflation
    return np.where(count > 1, variance, np.nan)
