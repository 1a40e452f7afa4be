"""Prompts of about the same length, padded on the right to one: what the engines take."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Int32

from xmflow_jax.data.place import Place, stack_places

# Padded lengths are multiples of this, so that a study compiles a handful of programs.
LENGTH_STEP = 16
# From here on steps grow with the length, a sixteenth of it at most: such prompts hold images of many sizes.
LONG = 1024

# Built with numpy on the host, traced as jax arrays inside the engines.
Array = Any
Tree = Any


class StackInput(NamedTuple):
    """What one stack of a model reads: prompts padded on the right to one length.

    Attributes:
        tokens: word ids, with the model's image token at image positions.
        length: real positions of each prompt.
        ids: position ids (`Place.axes`), those of positions that would be generated behind them.
        delta: what a generated position's id is beyond its index.
        blocks: block numbers (`Place.blocks`), 0 at padding; None: attention is causal, which hides the padding.
        entry: the first position that depends on an earlier stack (`Place.entry`).
    """

    tokens: Int32[Array, "batch position"]
    length: Int32[Array, " batch"]
    ids: Int32[Array, "batch axis position"]
    delta: Int32[Array, " batch"]
    blocks: Int32[Array, "batch position"] | None
    entry: Int32[Array, " batch"]


class Batch(NamedTuple):
    """Prompts of one shape.

    Attributes:
        inputs: of every stack, the main one last; the answer is read at its `length - 1`.
        pixels: what the model's `visual` reads of the prompts' images; each leaf [batch, ...], padded with zeros on its
            second axis where prompts differ in it.
    """

    inputs: tuple[StackInput, ...]
    pixels: Tree

    @property
    def tokens(self) -> Int32[Array, "batch position"]:
        """The main stack's."""
        return self.inputs[-1].tokens

    @property
    def length(self) -> Int32[Array, " batch"]:
        """The main stack's."""
        return self.inputs[-1].length


RoleMasks = Mapping[str, Bool[np.ndarray, " _"]]


@runtime_checkable
class StackPrompt(Protocol):
    """What one stack reads of a question.

    Roles are over the stack's own positions, but image roles over the encoder's where a site of the stack reads the
    image from there.
    """

    @property
    def token_ids(self) -> Int32[np.ndarray, " position"]: ...

    @property
    def roles(self) -> RoleMasks: ...

    @property
    def place(self) -> Place: ...


@runtime_checkable
class Prompt(StackPrompt, Protocol):
    """What a batch needs of a prepared question: what the main stack reads, the image, and what other stacks read.

    Attributes:
        before: of the stacks before the main one, by their names, in the order in which they run.
    """

    @property
    def pixels(self) -> Tree:
        """What the model's `visual` reads of the prompt's images: an array or a tree of arrays."""
        ...

    @property
    def before(self) -> Mapping[str, StackPrompt]: ...


T = TypeVar("T")
# Padded length, and what else the prompts of one batch have in common: shapes of pixels, or how many images.
Bucket = tuple[int, tuple[tuple[int, ...], ...]]


def padded_length(length: int) -> int:
    """The bucket that a prompt of this length falls into."""
    step = LENGTH_STEP if length < LONG else 1 << (length.bit_length() - 5)
    return -(-length // step) * step


def stack_input(prompts: Sequence[StackPrompt]) -> StackInput:
    """What one stack reads, padded to the bucket of the longest."""
    length = np.array([len(prompt.token_ids) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), padded_length(int(length.max()))), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt.token_ids)] = prompt.token_ids
    places = stack_places([prompt.place for prompt in prompts], tokens.shape[1])
    entry = np.array([prompt.place.entry for prompt in prompts], np.int32)
    return StackInput(tokens, length, places.axes, places.delta, places.blocks, entry)


def build_batch(prompts: Sequence[Prompt]) -> Batch:
    """One batch of prompts, every stack's padded to the bucket of its longest."""
    names = list(prompts[0].before)
    before = [stack_input([prompt.before[name] for prompt in prompts]) for name in names]
    return Batch((*before, stack_input(prompts)), stack_pixels([prompt.pixels for prompt in prompts]))


def stack_pixels(pixels: Sequence[Tree]) -> Tree:
    """The pixels of several prompts, each leaf padded with zeros on its first axis to the longest and stacked."""

    def stacked(*leaves: np.ndarray) -> np.ndarray:
        longest = max(len(leaf) for leaf in leaves)
        return np.stack([np.pad(leaf, [(0, longest - len(leaf))] + [(0, 0)] * (leaf.ndim - 1)) for leaf in leaves])

    return jax.tree.map(stacked, *pixels)


def prompt_bucket(prompt: Prompt) -> Bucket:
    """What the prompts of one batch have in common: padded length, and the shapes of their pixels."""
    return padded_length(len(prompt.token_ids)), tuple(leaf.shape for leaf in jax.tree.leaves(prompt.pixels))


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
