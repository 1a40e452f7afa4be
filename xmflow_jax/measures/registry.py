"""All measures, in the order in which people are told them."""

from typing import TYPE_CHECKING, Final

from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.changed import CHANGED
from xmflow_jax.measures.margin import MARGIN
from xmflow_jax.measures.measure import Measure
from xmflow_jax.measures.probability import PROBABILITY

if TYPE_CHECKING:
    import pandas as pd

MEASURES: Final = (ACCURACY, PROBABILITY, MARGIN, CHANGED)


def measures_in(figure: str) -> tuple[Measure, ...]:
    """The measures that a kind of figure (`CURVES`, `HEAT_MAPS`, `COMPARISON`) is drawn of."""
    return tuple(measure for measure in MEASURES if figure in measure.figures)


def is_measured(measure: Measure, summary: "pd.DataFrame") -> bool:
    """Whether a summary, or a part of one, has a number of this measure: questions without options have no margin."""
    return measure.key in summary and bool(summary[measure.key].notna().any())
