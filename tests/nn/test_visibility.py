"""Which sources a position sees, and attention with nothing blocked, against loops over pairs of positions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmflow_jax.nn.attention import attend
from xmflow_jax.nn.interfaces import StrictSpan
from xmflow_jax.nn.visibility import causal_mask, sees, self_attend

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BATCH, LENGTH, HEADS, KV_HEADS, WIDTH = 2, 7, 4, 2, 6
few = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

rows_of_numbers = st.lists(
    st.lists(st.integers(0, 3), min_size=LENGTH, max_size=LENGTH), min_size=BATCH, max_size=BATCH
)
Length = int | StrictSpan | None
spans = st.none() | st.integers(1, LENGTH + 2) | st.integers(1, LENGTH + 2).map(StrictSpan)


def seen(target: int, source: int, span: Length, target_block: int, source_block: int) -> bool:
    """The rule, as words have it."""
    same = target_block > 0 and target_block == source_block
    if isinstance(span, StrictSpan):
        return (same or source <= target) and target - source < span.length
    return same or (source <= target and (span is None or target - source < span))


def traced(span: Length) -> Any:
    """A window whose length is an array, as of a layer that a scan runs."""
    if isinstance(span, StrictSpan):
        return StrictSpan(jnp.array(span.length))
    return None if span is None else jnp.array(span)


@few
@given(
    st.lists(st.integers(0, 12), min_size=LENGTH, max_size=LENGTH),
    st.lists(st.integers(0, 12), min_size=LENGTH + 1, max_size=LENGTH + 1),
    spans,
    rows_of_numbers,
    st.lists(st.integers(0, 3), min_size=LENGTH + 1, max_size=LENGTH + 1),
)
def test_sees_is_the_rule_for_every_pair(
    target: list[int],
    source: list[int],
    span: int | StrictSpan | None,
    target_block: list[list[int]],
    source_block: list[int],
) -> None:
    """Positions are any, such as a suffix's rows; they and their block numbers need not have equal ranks."""
    places = jnp.array(target), jnp.array(source)
    plain = np.asarray(sees(*places, span))
    blocks = jnp.array(target_block), jnp.array([source_block] * BATCH)
    whole = np.asarray(sees(*places, traced(span), *blocks))
    assert whole.shape == (BATCH, LENGTH, LENGTH + 1)
    for row, one, other in np.ndindex(whole.shape):
        told = target[one], source[other], span
        assert plain[one, other] == seen(*told, 0, 0)
        assert whole[row, one, other] == seen(*told, target_block[row][one], source_block[other])


def test_without_blocks_and_windows_attention_is_causal() -> None:
    rows = jnp.arange(LENGTH)
    np.testing.assert_array_equal(sees(rows, rows), np.tri(LENGTH, dtype=bool))
    np.testing.assert_array_equal(causal_mask(LENGTH), np.tri(LENGTH, dtype=bool))


def test_one_block_over_everything_sees_everything_whatever_the_span() -> None:
    rows, block = jnp.arange(LENGTH), jnp.ones(LENGTH, int)
    assert sees(rows, rows, 1, block, block).all()


@partial(jax.jit, static_argnames=("rows", "softcap"))
def _attended(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    blocks: jax.Array | None,
    span: Any,
    rows: int,
    softcap: float | None,
) -> jax.Array:
    return self_attend(query, key, value, 0.4, blocks, span, softcap, rows)


def one_after_the_other(
    parts: tuple[np.ndarray, ...], blocks: list[list[int]] | None, span: Length, softcap: float | None
) -> np.ndarray:
    """Attention of each row of each head, written with loops."""
    query, key, value = parts
    out = np.zeros(query.shape)
    for row, target, head in np.ndindex(query.shape[:3]):
        own = head // (HEADS // KV_HEADS)
        numbers = [0] * LENGTH if blocks is None else blocks[row]
        there = [one for one in range(LENGTH) if seen(target, one, span, numbers[target], numbers[one])]
        logits = 0.4 * key[row, there, own] @ query[row, target, head]
        logits = logits if softcap is None else softcap * np.tanh(logits / softcap)
        weights = np.exp(logits - logits.max())
        out[row, target, head] = weights / weights.sum() @ value[row, there, own]
    return out


@few
@given(
    st.integers(0, 10**6), st.none() | rows_of_numbers, spans, st.sampled_from((3, 256)), st.sampled_from((None, 2.0))
)
def test_attention_with_nothing_blocked_is_the_loops(
    seed: int, blocks: list[list[int]] | None, span: Length, rows: int, softcap: float | None
) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(BATCH, LENGTH, heads, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    parts = tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
    told = None if blocks is None else jnp.array(blocks), traced(span)
    found = _attended(*map(jnp.asarray, parts), *told, rows=rows, softcap=softcap)
    np.testing.assert_allclose(found, one_after_the_other(parts, blocks, span, softcap), rtol=0, atol=2e-6)


def test_a_softcap_bounds_the_logits_that_the_softmax_takes() -> None:
    """Logits of 400 and 800 become 2 and 2: both sources count alike."""
    query = jnp.full((1, 1, 1, 1), 20.0)
    key, value = jnp.array([20.0, 40.0]).reshape(1, 2, 1, 1), jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    assert float(attend(query, key, value, 1.0)[0, 0, 0, 0]) == 3.0
    assert float(attend(query, key, value, 1.0, softcap=2.0)[0, 0, 0, 0]) == 2.0
