"""Running a stack's blocks: one compiled scan for each group of blocks alike."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from xmflow_jax.nn.anatomy import NOTHING, OWN, Site
from xmflow_jax.nn.interfaces import Block, BlockGroup, KeysValues, Model, ReadingBlock, Stack

Tree = Any
# (hidden states, the block, its group's number, its number within the group) -> (hidden states, what is kept).
Step = Callable[[Array, Block, int, Any], tuple[Array, Tree]]


def layer_count(stack: Stack) -> int:
    """Blocks of all groups."""
    return sum(group.layers for group in stack.groups)


def layers_before(model: Model, number: int) -> int:
    """Layers of the stacks that run before one of a model's (-1: the main one)."""
    return sum(layer_count(stack) for stack in model.stacks[:number])


def group_begins(stack: Stack, before: int = 0) -> list[int]:
    """The number of each group's first layer, behind so many layers of the stacks before."""
    return [before + sum(one.layers for one in stack.groups[:place]) for place in range(len(stack.groups))]


def group_ranges(stack: Stack, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Layers `start` to `stop - 1` of a stack by group: (the group's number, first and last + 1 within the group)."""
    begin = 0
    for number, group in enumerate(stack.groups):
        first, last = max(start - begin, 0), min(stop - begin, group.layers)
        if first < last:
            yield number, first, last
        begin += group.layers


def run_layers(stack: Stack, x: Array, step: Step, start: int, stop: int) -> tuple[Array, list[Tree]]:
    """Layers `start` to `stop - 1` of a stack, one after the other.

    Returns:
        The last one's output, and what was kept, stacked over the layers of each group that has any of them.
    """
    kept = []
    for number, first, last in group_ranges(stack, start, stop):
        group = stack.groups[number]
        if last - first == 1:
            x, own = step(x, group.block(first), number, first)
            kept.append(jax.tree.map(lambda leaf: leaf[None], own))
        else:
            x, own = jax.lax.scan(partial(_scanned, step, group, number), x, jnp.arange(first, last))
            kept.append(own)
    return x, kept


def _scanned(step: Step, group: BlockGroup, number: int, x: Array, index: Array) -> tuple[Array, Tree]:
    return step(x, group.block(index), number, index)


def reading_site(group: BlockGroup) -> Site | None:
    """The site of a group's blocks that reads something else than its own stack; None where there is none."""
    return next((site for site in group.sites if site.reads not in (OWN, NOTHING)), None)


def own_site(group: BlockGroup) -> Site | None:
    """The site of a group's blocks that reads its own stack; None where there is none."""
    return next((site for site in group.sites if site.reads == OWN), None)


def read_layers(group: BlockGroup, source: Float[Array, "*batch source width"]) -> KeysValues:
    """Keys and values of a source, of every layer of a group that reads it [layer, *batch, source, heads, width]."""

    def step(_: None, index: Array) -> tuple[None, KeysValues]:
        return None, cast(ReadingBlock, group.block(index)).read(source)

    found: KeysValues = jax.lax.scan(step, None, jnp.arange(group.layers))[1]
    return found


def every_row(x: Array) -> Array:
    """All positions have queries (`interfaces.Rows`)."""
    return x


def nothing_dropped(site: Site, output: Array) -> Array:
    """Sublayers add what they put out (`interfaces.Drop`)."""
    return output


def next_logits(model: Model, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
    """The next token's, from the last block's output: final norm and head, in float32 or wider."""
    return model.unembed(model.norm(x))


def stack_name(stack: Stack) -> str:
    """The name under which its sites, and those that read it, know a stack."""
    return stack.groups[0].sites[0].stack


def own_keys_values(block: Block, x: Float[Array, "*batch position width"], rotation: Tree) -> KeysValues | None:
    """A block's keys and values of its own stack's positions; None where none of its sites reads them.

    The rest of the block is traced as well, and left out of the program since nothing reads it.
    """
    kept: list[KeysValues] = []

    def attend_at(
        site: Site, query: Array, own: KeysValues | None, scale: float, span: Any = None, softcap: float | None = None
    ) -> Array:
        kept.extend([] if own is None else [own])
        return jnp.zeros_like(query)

    block(x, rotation, attend_at, nothing_dropped, every_row)
    return kept[0] if kept else None
