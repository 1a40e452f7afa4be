"""The trie against brute force: what every row computes, and how few rows there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xmflow_jax.knockout.fast.schedule import BASE, Trie, build_trie, segment_layers
from xmflow_jax.knockout.windows import STYLES, window_layers

studies = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 3)))


def replay(trie: Trie, switched: np.ndarray) -> list[list[bytes]]:
    """What each configuration has had switched on by the end, following the segments' rows and their parents."""
    rows: list[list[bytes]] = []
    for segment in trie.segments:
        new = []
        for parent, member in zip(segment.parents, segment.members, strict=True):
            before = [b"base"] * segment.start if parent == BASE else list(rows[parent])
            new.append(before + [switched[member, layer].tobytes() for layer in range(segment.start, segment.stop)])
        rows = new
    return [rows[end] if end != BASE else [] for end in trie.ends]


@settings(max_examples=200)
@given(studies, st.sampled_from([0.0, 0.04, 0.5]))
def test_every_configuration_is_replayed_exactly(switched: np.ndarray, waste: float) -> None:
    trie = build_trie(switched, range(len(switched)), waste)
    nothing = np.zeros_like(switched[0, 0]).tobytes()
    for own, done in zip(switched, replay(trie, switched), strict=True):
        if not done:
            assert not own.any()
            continue
        for layer, bits in enumerate(done):
            # A row that starts from the base run must have had nothing switched on before.
            assert bits == own[layer].tobytes() or (bits == b"base" and own[layer].tobytes() == nothing)


@given(studies)
def test_necessary_rows_are_the_distinct_histories(switched: np.ndarray) -> None:
    trie = build_trie(switched, range(len(switched)))
    for layer, count in enumerate(trie.necessary):
        histories = {own[: layer + 1].tobytes() for own in switched if own[: layer + 1].any()}
        assert count == len(histories)
    assert sum(trie.necessary) <= trie.executed_row_layers <= max(1.04 * sum(trie.necessary), 0)


def test_centred_windows_are_a_staircase_and_from_start_a_comb() -> None:
    def rows(style: str) -> tuple[int, ...]:
        switched = np.zeros((8, 8, 1), bool)
        for layer in range(8):
            switched[layer, list(window_layers(style, layer, 3, 8)), 0] = True
        return build_trie(switched, range(8)).necessary

    # Layer 0 is blocked by the configurations at 0 and 1, which are one row until the first stops.
    assert rows("centred") == (1, 2, 4, 5, 6, 7, 8, 8)
    assert rows("from-start") == (1, 2, 3, 4, 5, 6, 7, 8)
    assert rows("single") == (1, 2, 3, 4, 5, 6, 7, 8)
    assert rows("to-end") == (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layers", [16, 32, 80])
def test_few_segments_and_little_waste_at_real_sizes(style: str, layers: int) -> None:
    switched = np.zeros((layers, layers, 1), bool)
    for layer in range(layers):
        switched[layer, list(window_layers(style, layer, 9, layers)), 0] = True
    trie = build_trie(switched, range(layers))
    assert trie.executed_row_layers <= 1.04 * sum(trie.necessary)
    assert len(trie.segments) <= 26


def test_segments_by_hand() -> None:
    assert segment_layers([0, 0, 3, 3, 6], 0.0) == ((2, 4), (4, 5))
    assert segment_layers([0, 0], 0.0) == ()
    assert segment_layers([1, 2], 1.0) == ((0, 2),)
