"""Position ids and block numbers of any rows of a batch, those of generated tokens among them; which are padding."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.nn.anatomy import VISUAL
from xmflow_jax.nn.interfaces import Model
from xmflow_jax.nn.stacks import stack_name


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
