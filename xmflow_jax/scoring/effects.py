"""What one knockout did to one answer, as the study measures it.

Source: Cross-modal Information Flow in Multimodal LLMs (arXiv 2411.18620), section 4: the relative change in the
probability of the answer's first token, and the drop in accuracy.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
