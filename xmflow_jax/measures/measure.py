"""What a measure is: from what was observed of one question to the columns, the number and the words of its effect."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    import pandas as pd

# The pictures that a measure can have as files; the page draws all measures in all ways.
CURVES: Final = "curves"
HEAT_MAPS: Final = "heat maps"
COMPARISON: Final = "comparison"

# Which sign of an effect is harm: a probability falls, a loss of accuracy rises.
FALLS: Final = -1
RISES: Final = 1


@dataclass(frozen=True, eq=False)
class Observed:
    """One question's answers, and what was read at the first answer position, with nothing blocked (`base`) and under
    each of a study's configurations (`knockout`).

    Attributes:
        score: an answer's accuracy by the question's own rule, 0 to 1.
        base_token: the argmax.
        base_prob: the probability of `base_token`, 0 to 1.
        knockout_probs: the probability of `base_token` too, not of the configuration's own argmax.
        base_margin: the log-odds of the true over the false option, in natural units; NaN where there are no options.
    """

    score: Callable[[str], float | None]
    base_answer: str
    knockout_answers: Sequence[str]
    base_token: int
    knockout_tokens: Int[np.ndarray, " config"]
    base_prob: float
    knockout_probs: Float[np.ndarray, " config"]
    base_margin: float
    knockout_margins: Float[np.ndarray, " config"]


def made_up(rng: Any, configurations: int) -> Observed:
    """An observation of random numbers, for what is to be known before a model has run: how large rows are.

    Args:
        rng: a NumPy generator.
    """
    return Observed(
        score=lambda answer: 1.0,
        base_answer="an answer",
        knockout_answers=["an answer"] * configurations,
        base_token=int(rng.integers(9)),
        knockout_tokens=rng.integers(0, 9, configurations),
        base_prob=float(rng.random()),
        knockout_probs=rng.random(configurations),
        base_margin=float(rng.random(dtype=np.float32)),
        knockout_margins=rng.random(configurations, np.float32).astype(np.float64),
    )


@dataclass(frozen=True)
class Column:
    """A column of result rows.

    Attributes:
        kind: `int`, `float` or `str`.
        nullable: whether a row may have nothing there.
        undefined: of a table of rows, those in which NaN is what the column must hold; None: in no row.
    """

    name: str
    kind: type
    nullable: bool = False
    undefined: "Callable[[pd.DataFrame], Bool[np.ndarray, ' row']] | None" = None


@dataclass(frozen=True)
class Measure:
    """One way to say what a knockout does to an answer.

    A measure gives every question a number, its effect; a summary tells the effects' mean over questions with its
    interval and p-value. Everything that shows or stores a measure asks this record and knows no measure by name.

    Attributes:
        name: for people and programs, and behind a task's name in the files of its figures.
        key: the summary's column of the mean effect; those of its interval are `KEY_low` and `KEY_high`.
        columns: the result rows' columns that `read` fills.
        read: the columns' values, by their names, one for each configuration.
        needs: the result rows' columns that `effect` looks at; rows without them do not have this measure.
        effect: of a table of rows, each row's effect; NaN where it has none.
        scale: what effects are multiplied by in the summary: 100 for shares that are told in percent or points.
        bounds: of a table of rows, the least and the largest effect that any question can have; None: not known.
        levels: the summary's columns of what the effect is the difference of, with the rows' columns that they average.
        number: the summary's column of how many questions the mean is over, for measures that not all questions have;
            else that of all questions.
        label: what is told, without unit.
        unit: behind a value.
        digits: decimal places that people are told.
        harm: FALLS or RISES, the sign of a harmful effect.
        p_value, p_holm: the summary's columns of the sign-flip test, plain and corrected over a curve's layers.
        suffix: behind a task's name in the files of its figures.
        figures: which files are drawn. Each takes about a second: heat maps are drawn of the study's own measure alone.
    """

    name: str
    key: str
    columns: tuple[Column, ...]
    read: Callable[[Observed], Mapping[str, Sequence[Any]]]
    needs: tuple[str, ...]
    effect: "Callable[[pd.DataFrame], Float[np.ndarray, ' row']]"
    label: str
    unit: str
    digits: int
    harm: int
    p_value: str
    p_holm: str
    suffix: str
    figures: tuple[str, ...] = (CURVES, COMPARISON)
    scale: float = 1.0
    bounds: "Callable[[pd.DataFrame], tuple[float, float]] | None" = None
    levels: tuple[tuple[str, str], ...] = ()
    number: str = "n"

    @property
    def axis(self) -> str:
        """Label and unit, as an axis has them."""
        return f"{self.label} ({self.unit})"

    @property
    def low(self) -> str:
        """The summary's column of the lower end of the interval."""
        return f"{self.key}_low"

    @property
    def high(self) -> str:
        """The summary's column of the upper end of the interval."""
        return f"{self.key}_high"

    @property
    def design_effect(self) -> str:
        """The summary's column of what questions that share images do to the mean's variance."""
        return f"{self.key}_design_effect"

    @property
    def control(self) -> str:
        """The summary's column of the matched controls' mean effect."""
        return f"control_{self.key}"

    @property
    def over_control(self) -> str:
        """The summary's column of effect minus the matched controls', with `_low` and `_high` for its interval."""
        return f"{self.key}_over_control"
