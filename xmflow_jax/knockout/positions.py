"""Position ids and block numbers of any rows of a batch, those of generated tokens among them; which are padding."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.nn.anatomy import VISUAL
from xmflow_jax.nn.interfaces import Model, Stack, WithAdded
from xmflow_jax.nn.stacks import stack_name

Tree = Any


class Everywhere(NamedTuple):
    """All positions of a stack, as a pass over the whole of it takes them.

    Attributes:
        rows: 0, 1, ... of each prompt.
        rotation: what the stack's blocks need to know of them (`interfaces.Stack`).
        blocks: their block numbers; None where there are none.
    """

    rows: Int[Array, "batch position"]
    rotation: Tree
    blocks: Int[Array, "batch position"] | None


def everywhere(stack: Stack, inputs: StackInput, shape: tuple[int, ...], added: Array | None) -> Everywhere:
    """Every position of a stack.

    Args:
        shape: prompts and positions, room for generated ones among them.
        added: as of `rotation_at`.
    """
    rows = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    return Everywhere(rows, rotation_at(stack, inputs, rows, added), blocks_at(inputs, rows))


def rotation_at(
    stack: Stack,
    inputs: StackInput,
    rows: Int[Array, "batch row"],
    added: Float[Array, "batch position added"] | None,
) -> Tree:
    """What a stack's blocks need to know of some rows (`interfaces.Block`), which may be of generated tokens.

    Args:
        added: what blocks add at the prompts' positions (`interfaces.Model.added`).
    """
    rotation = stack.rotation(ids_at(inputs, rows))
    if added is None:
        return rotation
    own = jnp.take_along_axis(added, jnp.clip(rows, 0, added.shape[1] - 1)[..., None], axis=1)
    return WithAdded(rotation, jnp.where((rows < jnp.asarray(inputs.length)[:, None])[..., None], own, 0))


def side_by_side(rotation: Tree) -> Tree:
    """With an axis for the configurations, which have the same rows, behind the batch's."""
    return jax.tree.map(lambda leaf: leaf[:, None], rotation)


def ids_at(inputs: StackInput, rows: Int[Array, "batch row"]) -> Int[Array, "batch axis row"]:
    """Position ids of some rows: the prompt's own, behind it the index and what generated positions add."""
    padded = inputs.ids.shape[2]
    own = jnp.take_along_axis(jnp.asarray(inputs.ids), jnp.clip(rows, 0, padded - 1)[:, None], axis=2)
    behind = (rows + jnp.asarray(inputs.delta)[:, None])[:, None]
    return jnp.where((rows < jnp.asarray(inputs.length)[:, None])[:, None], own, behind)


def blocks_at(inputs: StackInput, rows: Int[Array, "batch row"]) -> Int[Array, "batch row"] | None:
    """Block numbers of some rows, 0 behind the prompts; None where there are no blocks."""
    if inputs.blocks is None:
        return None
    padded = inputs.blocks.shape[1]
    own = jnp.take_along_axis(jnp.asarray(inputs.blocks), jnp.clip(rows, 0, padded - 1), axis=1)
    return jnp.where(rows < padded, own, 0)


def real_positions(model: Model, batch: Batch, source: str) -> Bool[Array, "batch source"] | None:
    """The positions of an earlier stack that are no padding; None for an image's, all of which are real."""
    if source == VISUAL:
        return None
    inputs = batch.inputs[[stack_name(stack) for stack in model.stacks].index(source)]
    return jnp.arange(inputs.tokens.shape[1]) < inputs.length[:, None]
