"""Prompts of about the same length, padded on the right to one: what the engines take."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int32

# Padded lengths are multiples of this, so that a study compiles a handful of programs.
LENGTH_STEP = 16

# Built with numpy on the host, traced as jax arrays inside the engines.
Array = Any


class Batch(NamedTuple):
    """Prompts padded on the right to one length; causality hides the padding.

    Attributes:
        tokens: word ids, with the model's image token at image positions.
        length: real positions of each prompt; the answer is read at `length - 1`.
        pixels: normalised images, channels last; every prompt of a batch has the same number of them.
    """

    tokens: Int32[Array, "batch position"]
    length: Int32[Array, " batch"]
    pixels: Float[Array, "batch images height width 3"]


@runtime_checkable
class Prompt(Protocol):
    """What a batch needs of a prepared question."""

    @property
    def token_ids(self) -> Int32[np.ndarray, " position"]: ...

    @property
    def pixels(self) -> Float[np.ndarray, "images height width 3"]: ...

    @property
    def roles(self) -> Mapping[str, Bool[np.ndarray, " _"]]: ...


T = TypeVar("T")
# Padded length, and what else the prompts of one batch have in common: shapes of pixels, or grids of images.
Bucket = tuple[int, tuple[tuple[int, ...], ...]]


def padded_length(length: int) -> int:
    """The bucket that a prompt of this length falls into."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def build_batch(prompts: Sequence[Prompt]) -> Batch:
    """One batch of prompts, padded to the bucket of the longest."""
    length = np.array([len(prompt.token_ids) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), padded_length(int(length.max()))), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt.token_ids)] = prompt.token_ids
    return Batch(tokens, length, np.stack([prompt.pixels for prompt in prompts]))


def prompt_bucket(prompt: Prompt) -> Bucket:
    """What the prompts of one batch have in common: padded length, and number and shape of images."""
    return padded_length(len(prompt.token_ids)), (prompt.pixels.shape,)


def in_batches(prompts: Iterable[T], size: int, bucket_of: Callable[[T], Bucket]) -> Iterable[list[T]]:
    """Batches of at most `size` prompts, each of one bucket, in order of arrival.

    A batch leaves as soon as it is full, so at most (buckets x size) prompts wait; the incomplete ones leave last.
    """
    waiting: dict[Bucket, list[T]] = {}
    for prompt in prompts:
        bucket = waiting.setdefault(bucket_of(prompt), [])
        bucket.append(prompt)
        if len(bucket) == size:
            yield list(bucket)
            bucket.clear()
    yield from (bucket for bucket in waiting.values() if bucket)
