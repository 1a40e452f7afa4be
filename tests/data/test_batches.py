"""Padding and bucketing."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xmflow_jax.data.batch import LENGTH_STEP, StackPrompt, build_batch, in_batches, padded_length, prompt_bucket
from xmflow_jax.data.place import Place, plain_place


@dataclass(frozen=True, eq=False)
class Words:
    token_ids: np.ndarray
    pixels: np.ndarray
    roles: dict[str, np.ndarray] = field(default_factory=dict)
    before: dict[str, StackPrompt] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return plain_place(len(self.token_ids))


def words(length: int, images: int = 1) -> Words:
    return Words(np.arange(1, length + 1, dtype=np.int32), np.zeros((images, 2, 2, 3), np.float32))


def test_long_prompts_share_few_lengths() -> None:
    assert [padded_length(one) for one in (1, 16, 17, 643, 1023)] == [16, 16, 32, 656, 1024]
    assert [padded_length(one) for one in (1024, 1025, 2047, 2048, 2995)] == [1024, 1088, 2048, 2048, 3072]
    lengths = range(1, 6000)
    assert all(length <= padded_length(length) <= max(length + 15, length * 17 / 16) for length in lengths)
    assert len({padded_length(length) for length in range(1024, 4096)}) <= 33


def test_prompts_are_padded_on_the_right() -> None:
    batch = build_batch([words(3), words(LENGTH_STEP + 1)])
    assert batch.tokens.shape == (2, 2 * LENGTH_STEP)
    assert batch.length.tolist() == [3, LENGTH_STEP + 1]
    assert batch.tokens[0].tolist() == [1, 2, 3] + [0] * (2 * LENGTH_STEP - 3)
    assert batch.pixels.shape == (2, 1, 2, 2, 3)


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 2)), max_size=40), st.integers(1, 5))
def test_batches_lose_nothing_and_mix_no_buckets(shapes: list[tuple[int, int]], size: int) -> None:
    prompts = [words(*shape) for shape in shapes]
    batches = list(in_batches(prompts, size, prompt_bucket))
    assert sorted(map(id, (prompt for batch in batches for prompt in batch))) == sorted(map(id, prompts))
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len({(padded_length(len(prompt.token_ids)), len(prompt.pixels)) for prompt in batch}) == 1
    incomplete = [batch for batch in batches if len(batch) < size]
    assert len(incomplete) <= len({(padded_length(length), images) for length, images in shapes})
