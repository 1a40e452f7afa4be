"""Floating-point operations, a multiplication and an addition counted as two: necessary, executed, and the usual way.

What a position costs in a block is counted in the block itself (`nn.operations`), so no family needs formulas of its
own. Where operations are called necessary, a position reads the sources that it sees (sliding windows aside): position
t of a causal prompt t + 1, and all of its block where positions see each other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.knockout.fast.placement import Placement
from xmflow_jax.nn.anatomy import VISUAL, Site
from xmflow_jax.nn.interfaces import KeysValues, Model, ReadingBlock, WithAdded
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.operations import count_operations
from xmflow_jax.nn.stacks import every_row, next_logits, nothing_dropped, reading_site, stack_name

Tree = Any

# As many as any model's position ids have; a model with fewer takes the first.
ID_AXES: Final = 3


@dataclass(frozen=True)
class BlockCosts:
    """Operations of one block.

    Attributes:
        dense: one position through its matrices, attention itself left out.
        keys_values: of these, one position through the key and value projections of its own stack's site.
        edge: one query position reading one source of its own stack: a logit and a weighted value for every head.
        reads: what its other site reads: VISUAL or a stack's name; None where it has none.
        read: one source through that site's key and value projections.
        outside_edge: one query position reading one such source.
    """

    dense: int
    keys_values: int
    edge: int
    reads: str | None = None
    read: int = 0
    outside_edge: int = 0

    def rows(self, seen: Int[np.ndarray, " row"], outside: int) -> int:
        """Positions that read so many sources each, and so many outside."""
        return len(seen) * (self.dense + outside * self.outside_edge) + int(seen.sum()) * self.edge

    def last_rows(self, rows: int, sources: int, outside: int) -> int:
        """`rows` positions, of which the answer's row alone reads (so many sources)."""
        reading = self.dense - self.keys_values + sources * self.edge + outside * self.outside_edge
        return rows * self.keys_values + reading


@dataclass(frozen=True)
class StackCosts:
    """Operations of a stack, block by block.

    Attributes:
        name: of the stack.
        width: of its hidden states.
    """

    name: str
    width: int
    blocks: tuple[BlockCosts, ...]


@dataclass(frozen=True)
class ModelCosts:
    """Operations of a model.

    Attributes:
        stacks: in the order in which they run.
        images: one prompt's images through what the model needs of its encoder.
        visual_positions: sources that they give to sites that read them.
        head: one position's logits.
    """

    stacks: tuple[StackCosts, ...]
    images: int
    visual_positions: int
    head: int


@dataclass(frozen=True)
class Operations:
    """Of one batch, by stage; `readout` is the head at answer positions."""

    images: float
    base: float
    suffixes: float
    readout: float

    @property
    def total(self) -> float:
        return self.images + self.base + self.suffixes + self.readout


def model_costs(net: Network, pixels: Tree) -> ModelCosts:
    """What a model's parts cost; nothing is computed.

    Args:
        net: arrays or their shapes.
        pixels: of one prompt, arrays or their shapes. Where a batch pads them, those of its largest prompt.
    """
    pixels = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), pixels)
    encode = _of_params(net, lambda model, pixels: model.visual(pixels))
    features = jax.eval_shape(encode, net.params, pixels)
    token, ids = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, ID_AXES, 1), jnp.int32)
    stacks: list[StackCosts] = []
    x: Any = None
    for number in range(len(net.module().stacks)):
        enter = _of_params(net, lambda model, *own, number=number: model.enter(number, *own))
        x = jax.eval_shape(enter, net.params, token, ids, features, x)
        stacks.append(_stack_costs(net, number, x, features))
    head = count_operations(_of_params(net, lambda model, x: next_logits(model, x[:, 0])), net.params, x)
    encoder = count_operations(encode, net.params, pixels)
    return ModelCosts(tuple(stacks), encoder, features.shape[1], head)


def _of_params(net: Network, function: Callable[..., Array]) -> Callable[..., Array]:
    """A function of a model as one of its parameters, for tracing."""
    return lambda params, *own: function(Network(net.graphdef, params).module(), *own)


def _stack_costs(net: Network, number: int, x: Any, features: Any) -> StackCosts:
    stack = net.module().stacks[number]
    blocks: list[BlockCosts] = []
    for place, group in enumerate(stack.groups):
        blocks += [_block_costs(net, (number, place), reading_site(group), x, features)] * group.layers
    return StackCosts(stack_name(stack), x.shape[-1], tuple(blocks))


def _block_costs(net: Network, place: tuple[int, int], reading: Site | None, x: Any, features: Any) -> BlockCosts:
    """One block of a group, which all have the same.

    Args:
        place: numbers of the stack and of the group.
        x: shape of one position's hidden state.
    """
    edges, keys_values = {"own": 0, "outside": 0}, 0

    def run(model: Model, x: Array) -> Array:
        stack = model.stacks[place[0]]

        def attend_at(
            site: Site, query: Array, own: KeysValues | None, scale: float, span: Any = None, softcap: Any = None
        ) -> Array:
            nonlocal keys_values
            # A logit and a weighted value for every number of every head.
            edges["outside" if own is None else "own"] += 4 * math.prod(query.shape[-2:])
            if own is not None:
                keys_values += 2 * x.shape[-1] * sum(math.prod(part.shape[-2:]) for part in own)
            return jnp.zeros_like(query)

        one = jnp.zeros((1, 1), jnp.int32)
        rotation = stack.rotation(jnp.zeros((1, ID_AXES, 1), jnp.int32))
        added = model.added(place[0], one, jnp.zeros(features.shape, features.dtype))
        rotation = rotation if added is None else WithAdded(rotation, added)
        return stack.groups[place[1]].block(0)(x, rotation, attend_at, nothing_dropped, every_row)

    def read(model: Model, source: Array) -> Array:
        block = cast(ReadingBlock, model.stacks[place[0]].groups[place[1]].block(0))
        key, value = block.read(source)
        return key.sum() + value.sum()

    dense = count_operations(_of_params(net, run), net.params, x)
    if reading is None:
        return BlockCosts(dense, keys_values, edges["own"])
    source = features if reading.reads == VISUAL else x
    one = jax.ShapeDtypeStruct((1, 1, source.shape[-1]), source.dtype)
    reads = count_operations(_of_params(net, read), net.params, one)
    return BlockCosts(dense, keys_values, edges["own"], reading.reads, reads, edges["outside"])


def _layers(costs: ModelCosts) -> list[tuple[int, BlockCosts, bool]]:
    """Every layer of all stacks: (the stack's number, its costs, whether it is the last one of all)."""
    found = [(number, block) for number, stack in enumerate(costs.stacks) for block in stack.blocks]
    return [(number, block, place == len(found) - 1) for place, (number, block) in enumerate(found)]


def _outside(costs: ModelCosts, block: BlockCosts, batch: Batch, prompt: int) -> int:
    """How many sources a block's other site reads of one prompt."""
    if block.reads is None:
        return 0
    if block.reads == VISUAL:
        return costs.visual_positions
    number = [stack.name for stack in costs.stacks].index(block.reads)
    return int(batch.inputs[number].length[prompt])


def sources_seen(inputs: StackInput, prompt: int) -> Int[np.ndarray, " position"]:
    """How many sources each position of a prompt sees."""
    place = np.arange(int(inputs.length[prompt]))
    if inputs.blocks is None:
        return place + 1
    block = np.asarray(inputs.blocks)[prompt, : len(place)]
    behind = np.zeros_like(place)
    for number in np.unique(block[block > 0]):
        (own,) = np.nonzero(block == number)
        behind[own] = len(own) - 1 - np.arange(len(own))
    return place + 1 + behind


def usual_operations(costs: ModelCosts, batch: Batch, configurations: int) -> float:
    """One full pass for every configuration of every prompt, image encoder included; causal count."""
    total = len(batch.length) * (costs.images + costs.head)
    for prompt in range(len(batch.length)):
        seen = [sources_seen(inputs, prompt) for inputs in batch.inputs]
        for number, block, _ in _layers(costs):
            outside = _outside(costs, block, batch, prompt)
            total += block.rows(seen[number], outside) + outside * block.read
    return configurations * float(total)


def necessary_operations(costs: ModelCosts, placement: Placement, batch: Batch) -> Operations:
    """The least that gives the study's answer on a batch: images and base run once, then only what can change."""
    base, suffixes, readouts = 0, 0, len(batch.length)
    for prompt in range(len(batch.length)):
        seen = [sources_seen(inputs, prompt) for inputs in batch.inputs]
        for place, (number, block, last) in enumerate(_layers(costs)):
            outside, length = _outside(costs, block, batch, prompt), int(batch.inputs[number].length[prompt])
            base += outside * block.read
            base += block.last_rows(length, length, outside) if last else block.rows(seen[number], outside)
            for group, begins in zip(placement.groups, placement.begins, strict=True):
                begin, count = begins[number], group.trie.lanes[place]
                if begin is None or not count:
                    continue
                own = seen[number][int(begin[prompt]) :]
                one = block.last_rows(len(own), length, outside) if last else block.rows(own, outside)
                suffixes += count * (one + _read_again(costs, block, begins, outside))
    for group in placement.groups:
        readouts += group.trie.lanes[-1] * len(batch.length)
    images = len(batch.length) * costs.images
    return Operations(float(images), float(base), float(suffixes), float(readouts * costs.head))


def _read_again(costs: ModelCosts, block: BlockCosts, changed: tuple[Any, ...], outside: int) -> int:
    """Keys and values of what a block reads, where that differs by configuration: of an earlier stack that changed."""
    names = [stack.name for stack in costs.stacks]
    if block.reads in names and changed[names.index(block.reads)] is not None:
        return outside * block.read
    return 0


def executed_operations(costs: ModelCosts, placement: Placement, batch: Batch, rows_at_a_time: int) -> Operations:
    """What the fast engine's programs really compute: padding, whole runs of lanes and of causal rows.

    Args:
        rows_at_a_time: of `nn.visibility.self_attend`.
    """
    base, suffixes, readouts = 0, 0, 1
    layers = _layers(costs)
    for number, block, last in layers:
        padded, causal = batch.inputs[number].tokens.shape[1], batch.inputs[number].blocks is None
        outside = _padded_outside(costs, block, batch)
        edges = _causal_edges(padded, rows_at_a_time) if causal else padded**2
        whole = padded * (block.dense + outside * block.outside_edge) + edges * block.edge
        base += outside * block.read + (block.last_rows(padded, padded, outside) if last else whole)
    for group in placement.groups:
        shape = group.shape
        for runs, (number, block, last) in zip(group.schedule.runs, layers, strict=True):
            if not runs:
                continue
            extent, outside = shape.extents[number], _padded_outside(costs, block, batch)
            assert extent is not None, "a stack with lanes has an extent"
            sources = extent.prefix + extent.rows
            row = block.dense + sources * block.edge + outside * block.outside_edge
            own = block.last_rows(extent.rows, sources, outside) if last else extent.rows * row
            lanes = int(runs) * shape.together
            suffixes += lanes * (own + _read_again(costs, block, shape.extents, outside))
        readouts += shape.runs * shape.together
    size = len(batch.length)
    images = size * costs.images
    return Operations(float(images), float(size * base), float(size * suffixes), float(size * readouts * costs.head))


def _padded_outside(costs: ModelCosts, block: BlockCosts, batch: Batch) -> int:
    """How many sources a block's other site reads of any prompt, padding among them."""
    if block.reads is None:
        return 0
    if block.reads == VISUAL:
        return costs.visual_positions
    number = [stack.name for stack in costs.stacks].index(block.reads)
    return int(batch.inputs[number].tokens.shape[1])


def _causal_edges(length: int, rows: int) -> int:
    return sum((min(start + rows, length) - start) * min(start + rows, length) for start in range(0, length, rows))
