"""The trie against brute force: what every lane computes, and how few lanes there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xmflow_jax.knockout.fast.schedule import BASE, Trie, build_trie, lanes_together
from xmflow_jax.knockout.windows import STYLES, window_layers

studies = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 3)))


def replay(trie: Trie, switched: np.ndarray) -> list[list[list[bytes]]]:
    """What each lane has had switched on behind every layer, by the trie's sources and members alone."""
    behind: list[list[list[bytes]]] = []
    before: list[list[bytes]] = []
    for layer, count in enumerate(trie.lanes):
        now = []
        for lane in range(count):
            source, member = int(trie.sources[layer, lane]), int(trie.members[layer, lane])
            done = [b"base"] * layer if source == BASE else before[source]
            now.append([*done, switched[member, layer].tobytes()])
        behind.append(now)
        before = now
    return behind


@settings(max_examples=200)
@given(studies)
def test_every_configuration_is_replayed_exactly(switched: np.ndarray) -> None:
    trie = build_trie(switched, range(len(switched)))
    behind = replay(trie, switched)
    nothing = np.zeros_like(switched[0, 0]).tobytes()
    for row, own in enumerate(switched):
        for layer in range(switched.shape[1]):
            end = int(trie.ends[row, layer])
            if end == BASE:
                assert not own[: layer + 1].any()
                continue
            # A lane that begins from the base run must have had nothing switched on before.
            done = [nothing if bits == b"base" else bits for bits in behind[layer][end]]
            assert done == [bits.tobytes() for bits in own[: layer + 1]]


@given(studies)
def test_lanes_are_the_distinct_histories(switched: np.ndarray) -> None:
    trie = build_trie(switched, range(len(switched)))
    for layer, count in enumerate(trie.lanes):
        histories = {own[: layer + 1].tobytes() for own in switched if own[: layer + 1].any()}
        assert count == len(histories)


@given(studies)
def test_a_lane_goes_on_where_it_is_and_copies_are_the_exception(switched: np.ndarray) -> None:
    """Every lane that is there stays; only a lane that begins may continue another one."""
    trie = build_trie(switched, range(len(switched)))
    before = 0
    for layer, count in enumerate(trie.lanes):
        assert trie.sources[layer, :before].tolist() == list(range(before))
        assert all(source < before for source in trie.sources[layer, before:])
        assert (trie.sources[layer, count:] == BASE).all()
        before = count


def test_some_configurations_of_a_study_keep_their_numbers() -> None:
    switched = np.array([[[True]], [[False]], [[True]], [[True]]])
    trie = build_trie(switched, (1, 2, 3))
    assert (trie.lanes, trie.members.tolist(), trie.ends.tolist()) == ((1,), [[2]], [[BASE], [0], [0]])


def test_centred_windows_are_a_staircase_and_from_start_a_comb() -> None:
    def lanes(style: str) -> tuple[int, ...]:
        switched = np.zeros((8, 8, 1), bool)
        for layer in range(8):
            switched[layer, list(window_layers(style, layer, 3, 8)), 0] = True
        return build_trie(switched, range(8)).lanes

    # Layer 0 is blocked by the configurations at 0 and 1, which are one lane until the first stops.
    assert lanes("centred") == (1, 2, 4, 5, 6, 7, 8, 8)
    assert lanes("from-start") == (1, 2, 3, 4, 5, 6, 7, 8)
    assert lanes("single") == (1, 2, 3, 4, 5, 6, 7, 8)
    assert lanes("to-end") == (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("lanes", "rows", "overhead", "together"),
    [
        # Three pathways begin in every layer: three at a time waste nothing, fewer begin more runs.
        ((3, 6, 9, 12), 40, 1, 3),
        # Runs as dear as all rows: one a layer.
        ((3, 6, 9, 12), 1, 1000, 12),
        # In 1 + 2 + 2 runs of 2 lanes, 5 x 28 rows, or in 3 runs of 4, 3 x 48; with 12 in place of 8, 160 and 156.
        ((2, 4, 4), 10, 8, 2),
        ((2, 4, 4), 10, 12, 4),
        ((), 40, 32, 1),
    ],
)
def test_lanes_at_a_time_by_hand(lanes: tuple[int, ...], rows: int, overhead: int, together: int) -> None:
    assert lanes_together(lanes, rows, overhead) == together


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layers", [16, 32, 80])
def test_little_waste_at_real_sizes(style: str, layers: int) -> None:
    """Three pathways of 40 rows: few idle lanes, though runs are few as well."""
    switched = np.zeros((3 * layers, layers, 3), bool)
    for pathway in range(3):
        for layer in range(layers):
            switched[pathway * layers + layer, list(window_layers(style, layer, 9, layers)), pathway] = True
    lanes = build_trie(switched, range(len(switched))).lanes
    together = lanes_together(lanes, 40, 8)
    runs = sum(-(-count // together) for count in lanes)
    assert runs * together <= 1.08 * sum(lanes)
    assert runs <= 0.35 * sum(lanes)
