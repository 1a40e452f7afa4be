"""Accuracy by task, question type and answer type, with intervals."""

import math
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from xmflow_jax.analysis.bootstrap import CONFIDENCE, t_quantile
from xmflow_jax.analysis.clusters import (
    IMAGE,
    design_effects,
    effective_images,
    image_codes,
    image_correlations,
    image_sums,
    small_sample,
)

# Two-sided 95 % of the normal distribution.
Z: Final = 1.959963984540054

OVERALL: Final = "all"
GROUPINGS: Final = ("task", "question_type", "answer_type")
ACCURACY_COLUMNS: Final = (
    "grouping",
    "group",
    "n",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "scorer",
    "images",
    "design_effect",
)


def wilson_interval(mean: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    Also of a mean of scores between 0 and 1, as VQA's are: their variance is at most that of right and wrong with the
    same mean, so that the interval is, if anything, too wide.

    Args:
        mean: 0 to 1.
        n: values averaged, at least 1; where they share images, as many as they are worth (`effective_questions`).
    """
    centre = mean + Z**2 / (2 * n)
    half = Z * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    total = 1 + Z**2 / n
    return max(0.0, (centre - half) / total), min(1.0, (centre + half) / total)


def effective_questions(scores: Float[np.ndarray, " questions"], images: Int[np.ndarray, " questions"]) -> float:
    """How many questions, each about its own image, would tell the mean as well as these: 1 to their number.

    Their number over the design effect, which is taken as at least 1, times the squared ratio of Student's quantiles
    for so many questions and for the degrees of freedom that images leave (`clusters.small_sample`), since the design
    effect of few images is itself not well known (Korn and Graubard 1998, Survey Methodology 24). Where all questions
    agree, and there is no such effect, it is the number of effective images; one image counts as one question.
    """
    sizes = image_sums(scores[:, None], images)[1][:, 0]
    n = len(scores)
    if len(sizes) == n:
        return n
    if len(sizes) == 1:
        return 1
    effect = design_effects(scores[:, None], images)[0]
    if np.isnan(effect):
        return effective_images(sizes)
    correlation = _careful_correlation(scores, images, sizes)
    effect = max(effect, 1.0 + ((sizes**2).sum() / n - 1.0) * correlation)
    (left,), _ = small_sample(sizes[:, None], np.array([correlation]))
    tails = [t_quantile((1 - CONFIDENCE) / 2, degrees) for degrees in (n - 1, float(left))]
    return float(np.clip(n / max(effect, 1.0) * (tails[0] / tails[1]) ** 2, 1.0, n))


def _careful_correlation(
    scores: Float[np.ndarray, " questions"], images: Int[np.ndarray, " questions"], sizes: Float[np.ndarray, " images"]
) -> float:
    """The correlation of two questions about one image, with one image more on which all answers are alike.

    What tells it are images with the rarer kind of answer, right or wrong, and several questions. Where these are one
    or two, as among twenty images with hardly a wrong answer, the estimate alone may be anything.
    """
    found = float(image_correlations(scores[:, None], images)[0])
    rarer = scores if scores.mean() < 0.5 else 1.0 - scores
    tells = image_sums(rarer[:, None], images)[0][:, 0] * (sizes - 1)
    number = float(tells.sum() ** 2 / (tells**2).sum()) if tells.any() else 0.0
    return (number * found + 1.0) / (number + 1.0)


def accuracy_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of all scored answers, then of each group of each grouping that the questions tell, sorted by name.

    Args:
        answers: `task`, `question_type` and `answer_type` (which may be null), `score` (0 to 1; NaN where there is no
            gold answer) and `scorer`; `image_id` where it is known which questions share an image.

    Returns:
        `ACCURACY_COLUMNS`: accuracies in percent, `scorer` naming the rules that the group was scored by,
        `images` how many images its questions are about, and `design_effect` what their sharing images does to the
        variance of the accuracy (NaN: not known). Empty where
        nothing was scored.
    """
    scored = answers[answers["score"].notna()]
    if scored.empty:
        return pd.DataFrame(columns=list(ACCURACY_COLUMNS))
    rows = [_row(OVERALL, OVERALL, scored)]
    for grouping in GROUPINGS:
        rows += [_row(grouping, str(name), own) for name, own in scored.groupby(grouping, sort=True)]
    return pd.DataFrame(rows, columns=list(ACCURACY_COLUMNS))


def _row(grouping: str, group: str, scored: pd.DataFrame) -> tuple[str, str, int, float, float, float, str, int, float]:
    # Summed exactly, so that the order of the answers does not matter.
    mean, n = math.fsum(scored["score"]) / len(scored), len(scored)
    images = image_codes(scored[IMAGE]) if IMAGE in scored else np.arange(n)
    scores = scored["score"].to_numpy(np.float64)
    low, high = wilson_interval(mean, effective_questions(scores, images))
    effect = float(design_effects(scores[:, None], images)[0])
    scorers = " and ".join(sorted(set(scored["scorer"])))
    return grouping, group, n, 100 * mean, 100 * low, 100 * high, scorers, len(set(images)), effect


def accuracy_lines(table: pd.DataFrame) -> list[str]:
    """`accuracy_table` for people, one line per group and a heading for each grouping."""
    if table.empty:
        return []
    width = max(len(group) for group in table["group"]) + 2
    lines = []
    for grouping, groups in table.groupby("grouping", sort=False):
        if grouping != OVERALL:
            lines.append(f"by {str(grouping).replace('_', ' ')}:")
        for one in groups.to_dict("records"):
            interval = f"{one['accuracy_low']:.2f} to {one['accuracy_high']:.2f}"
            images = f" on {one['images']} images" if one["images"] < one["n"] else ""
            lines.append(
                f"{'' if grouping == OVERALL else '  '}{one['group']:<{width}} accuracy {one['accuracy']:6.2f} % "
                f"(95 %: {interval}), n = {one['n']}{images}, {one['scorer']}"
            )
    return lines
