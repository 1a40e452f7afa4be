"""What must be recomputed, as data: configurations as a trie over layers, computed once per study, without a model.

Two configurations that have blocked the same things in layers 0 to l are one row of layer l's batch; one that has
blocked nothing so far is the base run and is no row at all. For centred windows the rows form a staircase, for
`from-start` windows a comb.

Layers are run in segments, each one compiled scan with a fixed number of rows: the distinct histories at its last
layer. A row that would branch off in the middle of a segment is computed from the segment's start, which repeats its
parent's (or the base run's) values exactly. `segment_layers` picks the segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

BASE = -1


@dataclass(frozen=True)
class Segment:
    """Layers `start` to `stop - 1` over a fixed set of rows.

    Attributes:
        parents: for each row, the row of the previous segment that it continues, or BASE.
        members: for each row, one configuration (an index into the study) whose switches it follows.
    """

    start: int
    stop: int
    parents: tuple[int, ...]
    members: tuple[int, ...]


@dataclass(frozen=True)
class Trie:
    """The segments of some configurations, and where each of them ends.

    Attributes:
        configurations: indices into the study.
        ends: for each of them, its row in the last segment, or BASE where it blocks nothing at all.
        necessary: rows of every layer, as few as there can be; their sum is the number of row-layers necessary.
    """

    configurations: tuple[int, ...]
    segments: tuple[Segment, ...]
    ends: tuple[int, ...]
    necessary: tuple[int, ...]

    @property
    def executed_row_layers(self) -> int:
        return sum(len(segment.parents) * (segment.stop - segment.start) for segment in self.segments)


def histories(switched: Bool[np.ndarray, "config layer bit"]) -> Int[np.ndarray, "config layer"]:
    """The trie's node of every configuration at every layer; BASE while it has blocked nothing.

    Nodes are numbered by layer in order of first appearance.
    """
    count, layers = switched.shape[:2]
    nodes = np.full((count, layers), BASE)
    previous = np.full(count, BASE)
    for layer in range(layers):
        seen: dict[tuple[int, bytes], int] = {}
        for row in range(count):
            bits = switched[row, layer]
            if previous[row] == BASE and not bits.any():
                continue
            nodes[row, layer] = seen.setdefault((int(previous[row]), bits.tobytes()), len(seen))
        previous = nodes[:, layer].copy()
    return nodes


def segment_layers(rows: Sequence[int], waste: float = 0.04, breaks: Sequence[int] = ()) -> tuple[tuple[int, int], ...]:
    """The fewest segments whose executed row-layers exceed the necessary ones by at most `waste`.

    Args:
        rows: the rows of every layer, never decreasing.
        waste: the permitted excess; 0 gives one segment for each distinct number of rows.
        breaks: layers at which a segment must begin, if it has rows before: the first ones of a model's stacks.

    Returns:
        (start, stop) of every segment that has rows.
    """
    layers, necessary = len(rows), sum(rows)
    start = next((layer for layer, count in enumerate(rows) if count), layers)
    # best[k][stop]: least row-layers of k segments that end at stop, and where the last of them starts.
    best: list[dict[int, tuple[int, int]]] = [{start: (0, start)}]

    def together(begin: int, stop: int) -> bool:
        return begin < stop and not any(begin < layer < stop for layer in breaks)

    while layers not in best[-1] or best[-1][layers][0] > (1 + waste) * necessary:
        last = best[-1]
        best.append(
            {
                stop: min(
                    (last[begin][0] + (stop - begin) * rows[stop - 1], begin) for begin in last if together(begin, stop)
                )
                for stop in range(start + 1, layers + 1)
                if any(together(begin, stop) for begin in last)
            }
        )
    segments, stop = [], layers
    for ends in reversed(best[1:]):
        segments.append((ends[stop][1], stop))
        stop = ends[stop][1]
    return tuple(reversed(segments))


def build_trie(
    switched: Bool[np.ndarray, "config layer bit"],
    configurations: Sequence[int],
    waste: float = 0.04,
    breaks: Sequence[int] = (),
) -> Trie:
    """The trie of some of a study's configurations.

    Args:
        switched: what every configuration of the study switches on in every layer, all kinds of actions flattened,
            without those that cannot have an effect.
        configurations: which of them this trie holds.
        waste, breaks: see `segment_layers`.
    """
    nodes = histories(switched[list(configurations)])
    layers = nodes.shape[1]
    necessary = tuple(int(nodes[:, layer].max(initial=BASE)) + 1 for layer in range(layers))
    segments: list[Segment] = []
    for start, stop in segment_layers(necessary, waste, breaks):
        count = necessary[stop - 1]
        first = [int(np.argmax(nodes[:, stop - 1] == node)) for node in range(count)]
        parents = [int(nodes[row, start - 1]) if segments else BASE for row in first]
        segments.append(Segment(start, stop, tuple(parents), tuple(configurations[row] for row in first)))
    return Trie(tuple(configurations), tuple(segments), tuple(int(node) for node in nodes[:, -1]), necessary)
