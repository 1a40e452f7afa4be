"""How many answers a knockout changes at all, whether from right to wrong, from wrong to right, or between wrong ones.

An answer has changed if its text differs from the undisturbed run's, as both are in the rows: decoded, without outer
white space, and otherwise letter by letter. No scoring rule's normalisation comes between: rules differ in what they
overlook, and by this one an answer whose score changes has always changed, so that the share of changed answers is
never below the accuracy that is lost. Accuracy's losses and gains cancel, changes do not.

A run of first tokens alone has the undisturbed answer wherever its first token is unchanged: what changes behind it is
not seen there.

The p-value is the sign-flip test's, as accuracy's is. Since a share cannot be negative it says no more than how many
answers changed, 2 / 2^k for k of them; whether the pathway changes more than other edges do, a matched control tells.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from xmflow_jax.measures.measure import RISES, Measure, Observed

if TYPE_CHECKING:
    import pandas as pd


def _read(observed: Observed) -> Mapping[str, Sequence[Any]]:
    """No column of its own: every row has both answers."""
    return {}


def _effect(rows: "pd.DataFrame") -> Float[np.ndarray, " row"]:
    return (rows["knockout_answer"] != rows["base_answer"]).to_numpy(np.float64)


CHANGED: Final = Measure(
    name="changed",
    key="changed",
    columns=(),
    read=_read,
    needs=("base_answer", "knockout_answer"),
    effect=_effect,
    scale=100.0,
    bounds=lambda rows: (0.0, 1.0),
    label="Answers changed",
    unit="%",
    digits=1,
    harm=RISES,
    p_value="changed_p_value",
    p_holm="changed_p_holm",
    suffix="-changed",
)
