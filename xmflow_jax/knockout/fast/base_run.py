"""The base run: every stack once with nothing blocked, and what it leaves for the configurations.

Blocking edges into target positions changes no position that sees no target and no layer before the window. So the
base run keeps the keys and values of every position, and the inputs of every layer at the rows that a configuration may
recompute.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.knockout.fast.attention import SharedKeys
from xmflow_jax.knockout.positions import blocks_at, everywhere
from xmflow_jax.machine.passes import FIRST, SECOND, THIRD
from xmflow_jax.nn.anatomy import VISUAL, Site
from xmflow_jax.nn.attention import NO_EDGES, Edges, attend
from xmflow_jax.nn.interfaces import Block, BlockGroup, KeysValues, Stack
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import (
    every_row,
    group_begins,
    layer_count,
    next_logits,
    nothing_dropped,
    read_layers,
    reading_site,
    stack_name,
)
from xmflow_jax.nn.visibility import sees, self_attend

Tree = Any


class StackKeys(NamedTuple):
    """Keys and values that the base run leaves of one stack, each with a layer axis before all others.

    Attributes:
        own: of each group of blocks, of every position; None for blocks that do not read their own stack.
        outside: of each group, those of what its other site reads; None where there is none.
    """

    own: tuple[SharedKeys | None, ...]
    outside: tuple[SharedKeys | None, ...]


class BaseRun(NamedTuple):
    """What the base run leaves for the configurations.

    Attributes:
        keys: of every stack, in their order.
        hidden: of every stack, the input of every layer at the rows that are kept.
        first: first kept row of each prompt, of every stack.
        left: the output of every stack before the main one, at all positions.
        features: of each prompt's images, which a later stack may take again.
        logits: at the answer position.
        output: the last block's, at the answer position.
    """

    keys: tuple[StackKeys, ...]
    hidden: tuple[Float[Array, "layer batch row width"], ...]
    first: tuple[Int[Array, " batch"], ...]
    left: tuple[Float[Array, "batch position width"], ...]
    features: Float[Array, "batch visual width"]
    logits: Float[Array, "batch vocabulary"]
    output: Float[Array, "batch width"]


# Where the batch axis of each field is.
BASE_PARTS: Tree = BaseRun._make((THIRD, SECOND, FIRST, FIRST, FIRST, FIRST, FIRST))


def rows_from(
    x: Float[Array, "batch position width"], start: Int[Array, " batch"], count: int
) -> Float[Array, "batch row width"]:
    """`count` consecutive positions of each prompt, from its own start."""
    return jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, count))(x, start)


def base_pass(
    net: Network,
    batch: Batch,
    features: Float[Array, "batch visual width"],
    first: tuple[Int[Array, " batch"], ...],
    rows: tuple[int, ...],
) -> BaseRun:
    """One full pass with nothing blocked.

    Args:
        first: of every stack, the first row of each prompt that is kept; `first + rows` must not exceed the padded
            length.
        rows: of every stack, how many are kept.
    """
    model = net.module()
    keys: list[StackKeys] = []
    hidden: list[Array] = []
    left: list[Array] = []
    real: dict[str, Array] = {}
    output = jnp.zeros(())
    for number, stack in enumerate(model.stacks):
        inputs, main = batch.inputs[number], number == len(model.stacks) - 1
        x = model.enter(number, inputs.tokens, inputs.ids, features, left[-1] if left else None)
        named = {stack_name(one): states for one, states in zip(model.stacks, left, strict=False)}
        outside = read_outside(stack, {VISUAL: features, **named})
        added = model.added(number, inputs.tokens, features)
        kept = first[number], rows[number]
        output, mine, inputs_kept = run_stack(stack, x, inputs, outside, real, added, kept, answer_only=main)
        keys.append(mine)
        hidden.append(inputs_kept)
        if not main:
            left.append(output)
            real[stack_name(stack)] = jnp.arange(x.shape[1]) < inputs.length[:, None]
    answer = output[:, 0]
    logits = next_logits(model, answer)
    return BaseRun(tuple(keys), tuple(hidden), first, tuple(left), features, logits, answer)


def read_outside(stack: Stack, left: dict[str, Array]) -> tuple[SharedKeys | None, ...]:
    """Of each group of blocks, keys and values of what its reading site reads, in every layer."""
    found: list[SharedKeys | None] = []
    for group in stack.groups:
        site = reading_site(group)
        if site is None:
            found.append(None)
            continue
        key, value = read_layers(group, left[site.reads])
        found.append(SharedKeys(key.transpose(0, 3, 1, 4, 2), value.transpose(0, 3, 1, 2, 4)))
    return tuple(found)


def attend_outside(
    query: Float[Array, "batch row heads head_width"],
    keys: SharedKeys,
    scale: float,
    softcap: float | None,
    real: Bool[Array, "batch source"] | None,
    edges: Edges = NO_EDGES,
) -> Float[Array, "batch row heads head_width"]:
    """Attention to what a site reads outside its stack.

    Args:
        real: sources that are no padding; None: all.
        edges: what a knockout does here.
    """
    allowed = None if real is None else real[:, None, None]
    key, value = by_position(keys)
    return attend(query, key, value, scale, allowed, edges, softcap)


def by_position(keys: SharedKeys) -> KeysValues:
    """The keys and values [batch, source, kv_heads, head_width], as blocks give them."""
    return keys.key.transpose(1, 3, 0, 2), keys.value.transpose(1, 2, 0, 3)


def by_head(keys: KeysValues) -> SharedKeys:
    """The reverse of `by_position`."""
    key, value = keys
    return SharedKeys(key.transpose(2, 0, 3, 1), value.transpose(2, 0, 1, 3))


def run_stack(
    stack: Stack,
    x: Float[Array, "batch position width"],
    inputs: StackInput,
    outside: tuple[SharedKeys | None, ...],
    real: dict[str, Array],
    added: Float[Array, "batch position added"] | None,
    kept_rows: tuple[Int[Array, " batch"], int],
    answer_only: bool,
) -> tuple[Float[Array, "batch row width"], StackKeys, Float[Array, "layer batch kept width"]]:
    """One stack with nothing blocked: (its last block's output, keys and values, the inputs of every layer).

    Args:
        real: of each earlier stack by its name, the positions that are no padding.
        added: what blocks add (`interfaces.Model.added`).
        kept_rows: (first row that is kept of each prompt, how many are).
        answer_only: of the last block only the answer's row is wanted, beside everyone's keys and values.
    """
    place, rotation, blocks = everywhere(stack, inputs, x.shape[:2], added)
    answer = inputs.length[:, None] - 1

    def layer(x: Array, block: Block, group: int, index: Any, answered: bool = False) -> tuple[Array, Tree]:
        kept: list[KeysValues] = []

        def attend_at(
            site: Site,
            query: Array,
            own: KeysValues | None,
            scale: float,
            span: Any = None,
            softcap: float | None = None,
        ) -> Array:
            if own is None:
                return attend_outside(query, layer_slice(outside[group], index), scale, softcap, real.get(site.reads))
            kept.append(own)
            if not answered:
                return self_attend(query, *own, scale, blocks, span, softcap)
            seen = sees(answer, place, span, blocks_at(inputs, answer), blocks)[:, None]
            return attend(query, *own, scale, seen, softcap=softcap)

        wanted = (lambda part: rows_from(part, inputs.length - 1, 1)) if answered else every_row
        put_out = block(x, rotation, attend_at, nothing_dropped, wanted)
        return put_out, (by_head(kept[0]) if kept else None, rows_from(x, *kept_rows))

    hidden = jnp.zeros((layer_count(stack), len(x), kept_rows[1], x.shape[2]), x.dtype)
    own: list[SharedKeys | None] = []
    for number, (group, begin) in enumerate(zip(stack.groups, group_begins(stack), strict=True)):
        _, (shapes, _) = jax.eval_shape(partial(layer, block=group.block(0), group=number, index=0), x)
        room = jax.tree.map(lambda one, count=group.layers: jnp.zeros((count, *one.shape), one.dtype), shapes)
        answered = answer_only and number == len(stack.groups) - 1
        step, state = partial(_kept_layer, layer, group, (number, begin)), (x, room, hidden)
        if group.layers > answered:
            state = jax.lax.fori_loop(0, group.layers - answered, step, state)
        x, room, hidden = step(group.layers - 1, state, answered=True) if answered else state
        own.append(room)
    return x, StackKeys(tuple(own), outside), hidden


def _kept_layer(
    layer: Callable[..., tuple[Array, Tree]],
    group: BlockGroup,
    place: tuple[int, int],
    index: Any,
    state: tuple[Array, Tree, Array],
    answered: bool = False,
) -> tuple[Array, Tree, Array]:
    """A layer whose keys, values and input are written where they stay: put together afterwards, they would be copied.

    Args:
        place: the group's number, and that of its first layer.
    """
    x, room, hidden = state
    x, (keys, own) = layer(x, group.block(index), place[0], index, answered)

    def put(room: Array, one: Array, index: Any) -> Array:
        return jax.lax.dynamic_update_index_in_dim(room, one, index, axis=0)

    return x, jax.tree.map(partial(put, index=index), room, keys), put(hidden, own, place[1] + index)
