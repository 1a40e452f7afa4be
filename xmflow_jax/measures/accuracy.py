"""The accuracy that a knockout costs: points that the share of right answers falls by.

Source: Cross-modal Information Flow in Multimodal LLMs (arXiv 2411.18620), section 4.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from xmflow_jax.measures.measure import RISES, Column, Measure, Observed

if TYPE_CHECKING:
    import pandas as pd


def _read(observed: Observed) -> Mapping[str, Sequence[Any]]:
    answers = observed.knockout_answers
    scores = {answer: observed.score(answer) for answer in dict.fromkeys([observed.base_answer, *answers])}
    return {
        "base_score": [scores[observed.base_answer]] * len(answers),
        "knockout_score": [scores[answer] for answer in answers],
    }


def _effect(rows: "pd.DataFrame") -> Float[np.ndarray, " row"]:
    return (rows["base_score"] - rows["knockout_score"]).to_numpy(np.float64)


def _bounds(rows: "pd.DataFrame") -> tuple[float, float]:
    """The least and the largest fall that a question can have: one that was right cannot gain."""
    return float(rows["base_score"].min()) - 1, float(rows["base_score"].max())


ACCURACY: Final = Measure(
    name="accuracy",
    key="delta_accuracy",
    columns=(
        Column("base_score", float),  # the task's accuracy of the answer, 0 to 1
        Column("knockout_score", float),
    ),
    read=_read,
    needs=("base_score", "knockout_score"),
    effect=_effect,
    scale=100.0,
    bounds=_bounds,
    levels=(("base_accuracy", "base_score"), ("knockout_accuracy", "knockout_score")),
    label="Accuracy lost",
    unit="points",
    digits=1,
    harm=RISES,
    p_value="p_value",
    p_holm="p_holm",
    suffix="-accuracy",
)
