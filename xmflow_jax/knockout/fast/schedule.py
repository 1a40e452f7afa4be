"""What must be recomputed, as data: configurations as a trie over layers, computed once per study, without a model.

Two configurations that have blocked the same things in layers 0 to l are one and the same computation in layer l; one
that has blocked nothing so far is the base run and no computation at all. For centred windows the distinct histories
form a staircase, for `from-start` windows a comb.

Each history runs in a lane. A lane begins in the layer in which its history begins to differ, from the base run's
states or from those of another lane, and goes on to the last layer; so the lanes of a layer are always the first few.
A layer runs them some at a time, and as often as there are lanes: how many there are is data, not compiled in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

BASE = -1


@dataclass(frozen=True, eq=False)
class Trie:
    """Some configurations, and which lane computes them.

    Attributes:
        configurations: indices into the study.
        lanes: of every layer, never fewer than in the layer before; their sum is the number of lane-layers necessary.
        sources: the lane whose states each lane continues, or BASE where it begins with the base run's.
        members: a configuration (an index into the study) whose switches each lane follows.
        ends: for each of `configurations`, its lane behind every layer, or BASE while it blocks nothing.
    """

    configurations: tuple[int, ...]
    lanes: tuple[int, ...]
    sources: Int[np.ndarray, "layer lane"]
    members: Int[np.ndarray, "layer lane"]
    ends: Int[np.ndarray, "config layer"]


def build_trie(switched: Bool[np.ndarray, "config layer bit"], configurations: Sequence[int]) -> Trie:
    """The trie of some of a study's configurations.

    Args:
        switched: what every configuration of the study switches on in every layer, all kinds of actions flattened,
            without those that cannot have an effect.
        configurations: which of them this trie holds.
    """
    own = switched[list(configurations)]
    count, layers = own.shape[:2]
    ends = np.full((count, layers), BASE)
    lanes = np.full(count, BASE)
    steps: list[tuple[list[int], list[int]]] = []
    total = 0
    for layer in range(layers):
        before, seen = lanes.copy(), dict[tuple[int, bytes], int]()
        # Lanes that nobody has taken on yet stay as they are: each is some configuration's.
        sources, members = list(range(total)), [BASE] * total
        for row in range(count):
            bits = own[row, layer]
            if before[row] == BASE and not bits.any():
                continue
            history = int(before[row]), bits.tobytes()
            if history not in seen:
                # The first that goes on from a lane stays in it.
                stays = before[row] != BASE and members[before[row]] == BASE
                seen[history] = int(before[row]) if stays else len(members)
                if stays:
                    members[before[row]] = configurations[row]
                else:
                    sources.append(int(before[row]))
                    members.append(configurations[row])
            lanes[row] = seen[history]
        total = len(members)
        steps.append((sources, members))
        ends[:, layer] = lanes
    all_sources = np.full((layers, total), BASE)
    # Lanes that do not run yet may follow anyone.
    all_members = np.full((layers, total), configurations[0] if count else 0)
    for layer, (sources, members) in enumerate(steps):
        all_sources[layer, : len(sources)], all_members[layer, : len(members)] = sources, members
    lanes_begun = tuple(len(members) for _, members in steps)
    return Trie(tuple(configurations), lanes_begun, all_sources, all_members, ends)


def lanes_together(lanes: Sequence[int], rows: int, overhead: int) -> int:
    """How many lanes a layer should run at a time, so that all layers take the least time.

    Args:
        lanes: of every layer.
        rows: that each lane computes.
        overhead: a run takes as long as its rows and so many more.
    """
    most = max(lanes, default=0)

    def cost(together: int) -> int:
        return sum(-(-count // together) for count in lanes) * (together * rows + overhead)

    return min(range(1, most + 1), key=lambda together: (cost(together), together), default=1)
