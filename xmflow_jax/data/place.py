"""Where a prompt's positions stand: their ids, what a generated position adds, and which of them see each other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32


@dataclass(frozen=True, eq=False)
class Place:
    """One prompt's positions as a model counts them.

    Attributes:
        axes: position ids; one axis that equals the index is the plain case, three are Qwen2-VL's (time, row, column).
        delta: a generated position's id is its index plus this, on every axis.
        blocks: numbers above 0 for positions that see each other, also those behind them; 0 for the others. None: there
            are no such positions, and attention is causal.
        entry: the first position that holds, or reads, what an earlier stack of the model left.
    """

    axes: Int32[np.ndarray, "axes positions"]
    delta: int = 0
    blocks: Int32[np.ndarray, " positions"] | None = None
    entry: int = 0


def plain_place(length: int) -> Place:
    """Positions that are counted 0, 1, ... and see what is before them."""
    return Place(np.arange(length, dtype=np.int32)[None])
