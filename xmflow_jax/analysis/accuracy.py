"""Accuracy by task, question type and answer type, with intervals."""

import math
from typing import Final

import pandas as pd

# Two-sided 95 % of the normal distribution.
Z: Final = 1.959963984540054

OVERALL: Final = "all"
GROUPINGS: Final = ("task", "question_type", "answer_type")
ACCURACY_COLUMNS: Final = ("grouping", "group", "n", "accuracy", "accuracy_low", "accuracy_high", "scorer")


def wilson_interval(mean: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    Also of a mean of scores between 0 and 1, as VQA's are: their variance is at most that of right and wrong with the
    same mean, so that the interval is, if anything, too wide.

    Args:
        mean: 0 to 1.
        n: values averaged, at least 1.
    """
    centre = mean + Z**2 / (2 * n)
    half = Z * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    total = 1 + Z**2 / n
    return max(0.0, (centre - half) / total), min(1.0, (centre + half) / total)


def accuracy_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of all scored answers, then of each group of each grouping that the questions tell, sorted by name.

    Args:
        answers: `task`, `question_type` and `answer_type` (which may be null), `score` (0 to 1; NaN where there is no
            gold answer) and `scorer`.

    Returns:
        `ACCURACY_COLUMNS`: accuracies in percent, `scorer` naming the rules that the group was scored by. Empty where
        nothing was scored.
    """
    scored = answers[answers["score"].notna()]
    if scored.empty:
        return pd.DataFrame(columns=list(ACCURACY_COLUMNS))
    rows = [_row(OVERALL, OVERALL, scored)]
    for grouping in GROUPINGS:
        rows += [_row(grouping, str(name), own) for name, own in scored.groupby(grouping, sort=True)]
    return pd.DataFrame(rows, columns=list(ACCURACY_COLUMNS))


def _row(grouping: str, group: str, scored: pd.DataFrame) -> tuple[str, str, int, float, float, float, str]:
    # Summed exactly, so that the order of the answers does not matter.
    mean, n = math.fsum(scored["score"]) / len(scored), len(scored)
    low, high = wilson_interval(mean, n)
    scorers = " and ".join(sorted(set(scored["scorer"])))
    return grouping, group, n, 100 * mean, 100 * low, 100 * high, scorers


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
            lines.append(
                f"{'' if grouping == OVERALL else '  '}{one['group']:<{width}} accuracy {one['accuracy']:6.2f} % "
                f"(95 %: {interval}), n = {one['n']}, {one['scorer']}"
            )
    return lines
