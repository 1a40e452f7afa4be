"""What a knockout does to the margin of the true over the false option, where a question names two.

The margin is the log-odds of the options' first tokens at the first answer position (natural logarithm). Unlike the
probability of the answer it does not saturate, and unlike accuracy it tells how close an answer was to changing.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from xmflow_jax.measures.measure import FALLS, Column, Measure, Observed

if TYPE_CHECKING:
    import pandas as pd


def _read(observed: Observed) -> Mapping[str, Sequence[Any]]:
    knockout = observed.knockout_margins.tolist()
    return {
        "base_margin": [_known(observed.base_margin)] * len(knockout),
        "knockout_margin": list(map(_known, knockout)),
    }


def _known(margin: float) -> float | None:
    return float(margin) if np.isfinite(margin) else None


def _effect(rows: "pd.DataFrame") -> Float[np.ndarray, " row"]:
    base, knockout = (rows[name].to_numpy(np.float64) for name in ("base_margin", "knockout_margin"))
    known = np.isfinite(base) & np.isfinite(knockout)
    return np.where(known, np.where(known, knockout, 0.0) - np.where(known, base, 0.0), np.nan)


MARGIN: Final = Measure(
    name="margin",
    key="margin_change",
    columns=(
        # Log-odds of the true over the false option at the first answer position; null where there are no options.
        Column("base_margin", float, nullable=True),
        Column("knockout_margin", float, nullable=True),
    ),
    read=_read,
    needs=("base_margin", "knockout_margin"),
    effect=_effect,
    levels=(("base_margin", "base_margin"), ("knockout_margin", "knockout_margin")),
    number="margin_n",
    label="Change in the margin of the true over the false option",
    unit="log-odds",
    digits=2,  # log-odds are small numbers
    harm=FALLS,
    p_value="margin_change_p_value",
    p_holm="margin_change_p_holm",
    suffix="-margin",
)
