"""Where a prompt's positions stand: the ids that rotary or learned positions are told by, and which see each other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32


@dataclass(frozen=True, eq=False)
class Place:
    """The positions of one prompt.

    A position sees a source that stands before it or at it, and one that carries the same block number (> 0).

    Attributes:
        axes: position ids: one axis for plain rotary or learned positions, where an id equals its index in the plain
            case; three for time, height and width.
        delta: what a generated position adds to its index to give its id, on every axis; 0 in the plain case.
        blocks: block numbers; 0 is causal. None: all causal.
    """

    axes: Int32[np.ndarray, "axes positions"]
    delta: int = 0
    blocks: Int32[np.ndarray, " positions"] | None = None


def plain_place(length: int) -> Place:
    """One axis of ids that equal the index, causal."""
    return Place(np.arange(length, dtype=np.int32)[None])
