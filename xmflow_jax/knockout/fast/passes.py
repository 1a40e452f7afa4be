"""The fast engine's suffix passes: only the rows that a knockout can change, of many configurations side by side.

A configuration restarts from the base run at its window's first layer and runs over suffix rows alone; its queries read
the base run's keys and values for the prefix (shared by all configurations: one un-batched operand) and its own for the
suffix. A layer is one loop over its lanes (`schedule.py`), some at a time; how often it runs is data, so the program is
as small for many layers and configurations as for few. Where an earlier stack changes, all of what it leaves is put
together for every lane, and the next stack starts from that.
"""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.fast.base_run import BaseRun
from xmflow_jax.knockout.fast.placement import GroupShape, Schedule
from xmflow_jax.knockout.fast.stack_pass import Given, Lanes, StackPass, by_lane
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.machine.passes import spread_lanes
from xmflow_jax.nn.interfaces import Model
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import layer_count, next_logits


def stack_passes(
    model: Model, given: Given, schedule: Schedule, shape: GroupShape, starts: tuple[Int[Array, " batch"] | None, ...]
) -> list[StackPass]:
    """The pass over each stack that a group changes, what earlier stacks left still missing."""
    passes: list[StackPass] = []
    begin = 0
    for number, (extent, start) in enumerate(zip(shape.extents, starts, strict=True)):
        if extent is not None and start is not None:
            passes.append(StackPass(model, number, begin, given, schedule, extent, start, {}))
        begin += layer_count(model.stacks[number])
    return passes


def cross_over(
    model: Model, before: StackPass, own: StackPass, x: Lanes
) -> tuple[Float[Array, "run batch together next_row next_width"], Float[Array, "batch lane position width"]]:
    """From the last block's output of one stack, at the rows that changed, to what the next stack's first block takes.

    Returns:
        The next stack's rows, and all that the stack before left in every lane.
    """
    base = before.given.base

    def put(one: Array, rows: Array, start: Array) -> Array:
        whole = jnp.broadcast_to(one, (len(rows), *one.shape))
        return jax.lax.dynamic_update_slice_in_dim(whole, rows.astype(one.dtype), start, axis=1)

    left = jax.vmap(put)(base.left[before.number], by_lane(x), before.start)
    inputs, last = own.inputs, own.number == before.number + 1
    assert last, "a stack that an earlier one changes follows it"

    def enter(states: Array) -> Array:
        return model.enter(own.number, inputs.tokens, inputs.ids, base.features, states)

    def take(one: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(one, start, own.extent.rows, axis=1)

    entered = jax.vmap(take)(jax.vmap(enter, in_axes=1, out_axes=1)(left), own.start)
    runs, _, together = x.shape[:3]
    return jnp.moveaxis(entered.reshape(len(entered), runs, together, *entered.shape[2:]), 1, 0), left


def answer_states(
    model: Model,
    given: Given,
    schedule: Schedule,
    shape: GroupShape,
    starts: tuple[Int[Array, " batch"] | None, ...],
    answers: int,
) -> Float[Array, "batch lane answer width"]:
    """The last block's output at the answer rows of every lane.

    Args:
        starts: of every stack, the first recomputed row of each prompt.
        answers: answer rows, the prompt's last position and those behind it.
    """
    passes = stack_passes(model, given, schedule, shape, starts)
    hidden = given.base.hidden[passes[0].number]
    size = (shape.runs, hidden.shape[1], shape.together, passes[0].extent.rows, hidden.shape[3])
    x = spread_lanes(jnp.zeros(size, hidden.dtype))
    left: dict[int, Array] = {}
    for own, following in pairwise(passes):
        x = replace(own, left=dict(left)).run(x, layer_count(model.stacks[own.number]))
        x, left[own.number] = cross_over(model, own, following, x)
    main = replace(passes[-1], left=left)
    x = main.run(x, layer_count(model.stacks[-1]) - 1)
    return main.answer(x, answers)


def suffix_pass(
    net: Network,
    given: Given,
    schedule: Schedule,
    starts: tuple[Int[Array, " batch"] | None, ...],
    shape: GroupShape,
) -> Float[Array, "batch lane vocabulary"]:
    """Logits at the answer position of every lane of a group, recomputing its suffix rows.

    Args:
        schedule: which configuration each lane follows in every layer.
        starts: of every stack, the first recomputed row of each prompt.
        shape: static; its rows cover every prompt.
    """
    model = net.module()
    return next_logits(model, answer_states(model, given, schedule, shape, starts, answers=1)[:, :, 0])


def drafted_pass(
    net: Network,
    given: Given,
    draft: Int[Array, "batch step"],
    schedule: Schedule,
    starts: tuple[Int[Array, " batch"] | None, ...],
    shape: GroupShape,
) -> tuple[Float[Array, "batch lane vocabulary"], Int[Array, "batch lane step"]]:
    """As `suffix_pass`, with the base run's answers behind the prompts: (logits at the first answer position, the
    tokens that follow the prompt and every token of the draft but its last).

    Args:
        given: its base run is extended by the draft (`extend_base`), its positions are with the generated ones.
        draft: tokens of the base answers. The last of them is not read.
    """
    model = net.module()
    x = answer_states(model, given, schedule, shape, starts, draft.shape[1])
    # One answer row after the other: the logits of all of them, for every configuration, would be large.
    first = next_logits(model, x[:, :, 0])
    following = jax.lax.map(lambda row: greedy_token(next_logits(model, row)), jnp.moveaxis(x[:, :, 1:], 2, 0))
    tokens = jnp.concatenate([greedy_token(first)[None], following]).astype(draft.dtype)
    return first, jnp.moveaxis(tokens, 0, 2)


def extend_base(base: BaseRun, hidden: Float[Array, "layer batch step width"], length: Array, rows: int) -> BaseRun:
    """The base run with the states of generated positions behind the prompts', its window `rows` rows long.

    Args:
        hidden: input of every layer of the main stack at the positions `length`, `length + 1`, ...
        rows: static; the window covers these positions.
    """
    *others, main = base.hidden
    window = jnp.pad(main, ((0, 0), (0, 0), (0, rows - main.shape[2]), (0, 0)))

    def put(one: Array, new: Array, row: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(one, new, row, axis=1)

    whole = jax.vmap(put, (1, 1, 0), 1)(window, hidden.astype(window.dtype), length - base.first[-1])
    return base._replace(hidden=(*others, whole))
