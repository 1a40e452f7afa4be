"""The fast engine's suffix passes: only the rows that a knockout can change, of many configurations side by side.

A configuration restarts from the base run at its window's first layer and runs over suffix rows alone; its queries read
the base run's keys and values for the prefix (shared by all configurations: one un-batched operand) and its own for the
suffix. Where an earlier stack changes, all of what it leaves is put together for every configuration, and the next
stack starts from that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.knockout.arrays import Positions, Switches
from xmflow_jax.knockout.fast.attention import Reads, Rows, SharedKeys, Under
from xmflow_jax.knockout.fast.base_run import BaseRun, StackKeys, rows_from
from xmflow_jax.knockout.fast.placement import Extent, Group
from xmflow_jax.knockout.fast.schedule import Segment, Trie
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.knockout.positions import real_positions, rotation_at, side_by_side
from xmflow_jax.machine.passes import rows_per_device, spread_rows
from xmflow_jax.nn.interfaces import Block, Model, ReadingBlock
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import (
    group_begins,
    group_ranges,
    layer_count,
    next_logits,
    reading_site,
    run_layers,
    stack_name,
)

Tree = Any


class Given(NamedTuple):
    """What every suffix pass of a study on a batch is given.

    Attributes:
        base: the base run of the batch.
        batch: prompts, as the base run had them.
        switches: the whole study's.
        positions: of the batch.
    """

    base: BaseRun
    batch: Batch
    switches: Switches
    positions: Positions


@dataclass(frozen=True)
class StackPass:
    """One stack of a suffix pass.

    Attributes:
        model: whose stack it is.
        number: of the stack.
        begin: the number of its first layer, through all stacks.
        given: of the pass.
        extent: its rows.
        start: first row of each prompt.
        left: what changed stacks before it left [batch, config, position, width], by their names.
    """

    model: Model
    number: int
    begin: int
    given: Given
    extent: Extent
    start: Int[Array, " batch"]
    left: dict[str, Array]

    @property
    def inputs(self) -> StackInput:
        """Of the stack."""
        return self.given.batch.inputs[self.number]

    @property
    def keys(self) -> StackKeys:
        """The base run's, of the stack."""
        return self.given.base.keys[self.number]

    @property
    def every_row(self) -> Int[Array, "batch row"]:
        """Absolute positions of the rows."""
        return self.start[:, None] + jnp.arange(self.extent.rows)

    def run(
        self, x: Float[Array, "batch config row width"], start: int, stop: int, members: Int[Array, " config"]
    ) -> Float[Array, "batch config row width"]:
        """Layers `start` to `stop - 1` of the stack over all rows."""
        return run_layers(self.model.stacks[self.number], x, self._step(members), start, stop)[0]

    def answer(
        self, x: Float[Array, "batch config row width"], members: Int[Array, " config"], answers: int
    ) -> Float[Array, "batch config answer width"]:
        """The last layer, of which only the answers' rows are needed, beside all keys and values."""
        stack, last = self.model.stacks[self.number], layer_count(self.model.stacks[self.number]) - 1
        ((group, index, _),) = group_ranges(stack, last, last + 1)
        return self._step(members, answers)(x, stack.groups[group].block(index), group, index)[0]

    def _step(
        self, members: Int[Array, " config"], answers: int = 0
    ) -> Callable[[Array, Block, int, Any], tuple[Array, None]]:
        stack, length = self.model.stacks[self.number], self.inputs.length
        begins = group_begins(stack, self.begin)
        added = self.model.added(self.number, self.inputs.tokens, self.given.base.features)
        rotation = side_by_side(rotation_at(stack, self.inputs, self.every_row, added))
        query_rows = length[:, None] - 1 + jnp.arange(answers) if answers else self.every_row

        def wanted(part: Array) -> Array:
            """Hidden states are [batch, config, row, ...], rotations [batch, 1, row, ...]."""
            take = jax.vmap(lambda one, row: jax.lax.dynamic_slice_in_dim(one, row, answers, 1))
            taken: Array = take(part, length - 1 - self.start) if answers else part
            return taken

        def step(x: Array, block: Block, group: int, index: Any) -> tuple[Array, None]:
            on = layer_slice(self.given.switches, (members[None], begins[group] + index))
            at = Rows(query_rows, self.start, self.extent.rows)
            under = Under(at, self.inputs, on, self.given.positions)
            return block(x, rotation, under.attend(self.reads(block, group, index)), under.drop, wanted), None

        return step

    def reads(self, block: Block, group: int, index: Any) -> Reads:
        """What a layer's rows read beside themselves."""
        own, outside = self.keys.own[group], self.keys.outside[group]
        prefix = None
        if own is not None:
            prefix = SharedKeys(own.key[index, ..., : self.extent.prefix], own.value[index, :, :, : self.extent.prefix])
        site = reading_site(self.model.stacks[self.number].groups[group])
        if site is None:
            return Reads(prefix)
        if site.reads in self.left:
            rows = cast(ReadingBlock, block).read(self.left[site.reads])
            return Reads(prefix, None, rows, real_positions(self.model, self.given.batch, site.reads))
        return Reads(
            prefix, layer_slice(outside, index), None, real_positions(self.model, self.given.batch, site.reads)
        )

    def entered(self, x: Array | None, segment: Segment) -> Array:
        """The rows of a segment: each continues a row of the one before, or starts from the base run."""
        first = self.given.base.first[self.number]
        hidden = self.given.base.hidden[self.number][segment.start - self.begin]
        base_rows = rows_from(hidden, self.start - first, self.extent.rows)[:, None]
        known = base_rows if x is None else jnp.concatenate([base_rows, x], axis=1)
        return spread_rows(known[:, jnp.array(rows_per_device(segment.parents)) + 1])


def stack_passes(
    model: Model, given: Given, group: Group, starts: tuple[Int[Array, " batch"] | None, ...]
) -> list[StackPass | None]:
    """The pass over each stack that a group changes, what earlier stacks left still missing."""
    passes: list[StackPass | None] = []
    begin = 0
    for number, (extent, start) in enumerate(zip(group.extents, starts, strict=True)):
        if extent is None or start is None:
            passes.append(None)
        else:
            passes.append(StackPass(model, number, begin, given, extent, start, {}))
        begin += layer_count(model.stacks[number])
    return passes


def cross_over(
    model: Model, before: StackPass, own: StackPass, x: Float[Array, "batch config row width"]
) -> tuple[Float[Array, "batch config next_row next_width"], Float[Array, "batch config position width"]]:
    """From the last block's output of one stack, at the rows that changed, to what the next stack's first block takes.

    Returns:
        The next stack's rows, and all that the stack before left under every configuration.
    """
    base = before.given.base

    def put(one: Array, rows: Array, start: Array) -> Array:
        whole = jnp.broadcast_to(one, (len(rows), *one.shape))
        return jax.lax.dynamic_update_slice_in_dim(whole, rows.astype(one.dtype), start, axis=1)

    left = jax.vmap(put)(base.left[before.number], x, before.start)
    inputs, last = own.inputs, own.number == before.number + 1
    assert last, "a stack that an earlier one changes follows it"

    def enter(states: Array) -> Array:
        return model.enter(own.number, inputs.tokens, inputs.ids, base.features, states)

    def take(one: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(one, start, own.extent.rows, axis=1)

    whole = jax.vmap(enter, in_axes=1, out_axes=1)(left)
    return jax.vmap(take)(whole, own.start), left


def answer_states(
    model: Model, given: Given, group: Group, starts: tuple[Int[Array, " batch"] | None, ...], answers: int
) -> Float[Array, "batch end answer width"] | None:
    """The last block's output at the answer rows of a trie's ends; None where the trie does nothing.

    Args:
        starts: of every stack, the first recomputed row of each prompt.
        answers: answer rows, the prompt's last position and those behind it.
    """
    passes = [one for one in stack_passes(model, given, group, starts) if one is not None]
    x: Array | None = None
    left: dict[str, Array] = {}
    current = passes[0] if passes else None
    for segment in group.trie.segments:
        own = next(one for one in reversed(passes) if one.begin <= segment.start)
        if x is not None and current is not None and own.number != current.number:
            x, states = cross_over(model, current, own, x)
            left[stack_name(model.stacks[current.number])] = states
        parents = jnp.array(rows_per_device(segment.parents))
        # Where an earlier stack changed, every row continues one that did.
        left = {name: states[:, parents] for name, states in left.items()}
        own = current = replace(own, left=left)
        x, members = own.entered(x, segment), jnp.array(rows_per_device(segment.members))
        start, stop = segment.start - own.begin, segment.stop - own.begin
        if own.number < len(model.stacks) - 1 or stop < layer_count(model.stacks[-1]):
            x = own.run(x, start, stop, members)
            continue
        x = own.run(x, start, stop - 1, members) if stop - start > 1 else x
        x = own.answer(x, members, answers)
    return x


def suffix_pass(
    net: Network, given: Given, group: Group, starts: tuple[Int[Array, " batch"] | None, ...]
) -> Float[Array, "batch config vocabulary"]:
    """Logits at the answer position of a group's configurations, recomputing the suffix rows of each.

    Args:
        group: static; its rows cover every prompt.
        starts: of every stack, the first recomputed row of each prompt.
    """
    model = net.module()
    x = answer_states(model, given, group, starts, answers=1)
    return _at_ends(group.trie, given.base.logits, None if x is None else next_logits(model, x[:, :, 0]))


def drafted_pass(
    net: Network,
    given: Given,
    draft: Int[Array, "batch step"],
    group: Group,
    starts: tuple[Int[Array, " batch"] | None, ...],
) -> tuple[Float[Array, "batch config vocabulary"], Int[Array, "batch config step"]]:
    """As `suffix_pass`, with the base run's answers behind the prompts: (logits at the first answer position, the
    tokens that follow the prompt and every token of the draft but its last).

    Args:
        given: its base run is extended by the draft (`extend_base`), its positions are with the generated ones.
        draft: tokens of the base answers. The last of them is not read.
    """
    model, trie = net.module(), group.trie
    x = answer_states(model, given, group, starts, draft.shape[1])
    if x is None:
        return _at_ends(trie, given.base.logits, None), _at_ends(trie, draft, None)
    # One answer row after the other: the logits of all of them, for every configuration, would be large.
    first = next_logits(model, x[:, :, 0])
    following = jax.lax.map(lambda row: greedy_token(next_logits(model, row)), jnp.moveaxis(x[:, :, 1:], 2, 0))
    tokens = jnp.concatenate([greedy_token(first)[None], following]).astype(draft.dtype)
    return _at_ends(trie, given.base.logits, first), _at_ends(trie, draft, jnp.moveaxis(tokens, 0, 2))


def _at_ends(trie: Trie, base: Array, ends: Array | None) -> Array:
    """What the trie's ends have [batch, end, ...], for each of its configurations; the base run's for one that blocks
    nothing."""
    if ends is None:
        return jnp.broadcast_to(base[:, None], (len(base), len(trie.ends), *base.shape[1:]))
    return jnp.concatenate([base[:, None], ends], axis=1)[:, jnp.array(trie.ends) + 1]


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
