"""Where a prompt's positions stand: the ids that rotary or learned positions are told by, and which see each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class BatchPlaces(NamedTuple):
    """The places of a batch's prompts, padded on the right to one length.

    Attributes:
        axes: position ids. Behind a prompt stand those of the positions that it would generate.
        delta: of each prompt.
        blocks: block numbers, 0 behind a prompt; None where all prompts are causal.
    """

    axes: Int32[np.ndarray, "batch axes position"]
    delta: Int32[np.ndarray, " batch"]
    blocks: Int32[np.ndarray, "batch position"] | None


def stack_places(places: Sequence[Place], length: int) -> BatchPlaces:
    """The places of prompts with as many axes each, padded to `length` positions."""
    delta = np.array([place.delta for place in places], np.int32)
    axes = np.arange(length, dtype=np.int32) + delta[:, None, None]
    axes = np.repeat(axes, len(places[0].axes), axis=1)
    blocks = np.zeros((len(places), length), np.int32)
    for row, place in enumerate(places):
        own = place.axes.shape[1]
        axes[row, :, :own] = place.axes
        if place.blocks is not None:
            blocks[row, :own] = place.blocks
    return BatchPlaces(axes, delta, blocks if blocks.any() else None)
