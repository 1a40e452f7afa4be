"""What a knockout does to the probability of the answer: its relative change, in percent.

Source: Cross-modal Information Flow in Multimodal LLMs (arXiv 2411.18620), section 4: softmax at temperature 1 at the
first answer position; the probability is that of the token that the undisturbed run gives.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from xmflow_jax.measures.measure import COMPARISON, CURVES, FALLS, HEAT_MAPS, Column, Measure, Observed

if TYPE_CHECKING:
    import pandas as pd


def relative_change(base_prob: ArrayLike, knockout_prob: ArrayLike) -> NDArray[np.float64]:
    """`100 * (p_knockout - p_base) / p_base`, in percent; the arguments broadcast, the result has their shape.

    NaN where the base probability is 0: no relative change is defined there, and an infinity or a stand-in constant
    would decide every mean it enters.

    Args:
        base_prob: probability, 0 to 1, of the base run's first answer token in the base run.
        knockout_prob: probability of the same token under the knockout.
    """
    base = np.asarray(base_prob, dtype=np.float64)
    knockout = np.asarray(knockout_prob, dtype=np.float64)
    defined_base = np.where(base == 0, np.nan, base)
    return np.asarray(100 * (knockout - base) / defined_base)


def _read(observed: Observed) -> Mapping[str, Sequence[Any]]:
    count = len(observed.knockout_probs)
    return {
        "base_token": [observed.base_token] * count,
        "knockout_token": observed.knockout_tokens.tolist(),
        "base_prob": [observed.base_prob] * count,
        "knockout_prob": observed.knockout_probs.tolist(),
        "relative_change": relative_change(observed.base_prob, observed.knockout_probs).tolist(),
    }


def _effect(rows: "pd.DataFrame") -> Float[np.ndarray, " row"]:
    return rows["relative_change"].to_numpy(np.float64)


PROBABILITY: Final = Measure(
    name="probability",
    key="relative_change",
    columns=(
        Column("base_token", int),  # the argmax at the first answer position
        Column("knockout_token", int),
        Column("base_prob", float),  # of `base_token`, 0 to 1
        Column("knockout_prob", float),
        Column("relative_change", float, undefined=lambda rows: (rows["base_prob"] == 0).to_numpy()),  # percent
    ),
    read=_read,
    needs=("relative_change",),
    effect=_effect,
    label="Change in probability",
    unit="%",
    digits=1,
    harm=FALLS,
    p_value="relative_change_p_value",
    p_holm="relative_change_p_holm",
    suffix="",  # the study's own measure: its figures have the task's name alone
    figures=(CURVES, HEAT_MAPS, COMPARISON),
)
