"""The plain engine: `jax.vmap` of the pure forward pass over the knockout pytree. Slow, and obviously right.

It is the definition of a sweep, and what the fast engine is tested against.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.knockout.arrays import Positions, Switches, site_dropped, site_edges
from xmflow_jax.knockout.kinds.kind import View
from xmflow_jax.knockout.positions import everywhere, ids_at
from xmflow_jax.nn.anatomy import VISUAL, Site
from xmflow_jax.nn.attention import attend, drop
from xmflow_jax.nn.interfaces import Block, KeysValues, Model
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import (
    every_row,
    group_begins,
    layer_count,
    layers_before,
    next_logits,
    read_layers,
    reading_site,
    run_layers,
    stack_name,
)
from xmflow_jax.nn.visibility import sees

Tree = Any

# What later stacks and sites read: the image's features, and what every stack so far left, by its name.
Left = Mapping[str, Array]


def encode_images(net: Network, pixels: Tree) -> Float[Array, "batch visual width"]:
    """Visual features of every prompt."""
    return net.module().visual(pixels)


def run_stack(
    model: Model,
    number: int,
    x: Float[Array, "batch position width"],
    inputs: StackInput,
    left: Left,
    lengths: Mapping[str, Array],
    positions: Positions,
    knockout: Switches,
) -> Float[Array, "batch position width"]:
    """A stack over embedded positions under one configuration: its last block's output before any final norm.

    Args:
        left, lengths: what earlier stacks left, and how many positions of each are real.
        knockout: one configuration's switches, with a leading axis over the layers of all stacks.
    """
    stack = model.stacks[number]
    begins = group_begins(stack, layers_before(model, number))
    sites = [reading_site(group) for group in stack.groups]
    sources = [
        None if site is None else read_layers(group, left[site.reads])
        for group, site in zip(stack.groups, sites, strict=True)
    ]
    added = model.added(number, inputs.tokens, left[VISUAL])
    rows, rotation, blocks = everywhere(stack, inputs, x.shape[:2], added)

    def layer(x: Array, block: Block, group: int, index: Any) -> tuple[Array, None]:
        on = layer_slice(knockout, begins[group] + index)

        def attend_at(
            site: Site,
            query: Array,
            own: KeysValues | None,
            scale: float,
            span: Any = None,
            softcap: float | None = None,
        ) -> Array:
            edges = site_edges(site, on, positions, View())
            allowed: Bool[Array, ...] | None
            if own is not None:
                (key, value), allowed = own, sees(rows, rows, span, blocks, blocks)[:, None]
            else:
                (key, value), allowed = layer_slice(sources[group], index), real_sources(site, left, lengths)
            return attend(query, key, value, scale, allowed, edges, softcap)

        def drop_at(site: Site, output: Array) -> Array:
            return drop(output, site_dropped(site, on, positions, View()))

        return block(x, rotation, attend_at, drop_at, every_row), None

    return run_layers(stack, x, layer, 0, layer_count(stack))[0]


def real_sources(site: Site, left: Left, lengths: Mapping[str, Array]) -> Bool[Array, "batch 1 1 source"] | None:
    """The sources of a site that reads an earlier stack which are no padding; None: all, as of an image's."""
    if site.reads == VISUAL:
        return None
    return (jnp.arange(left[site.reads].shape[1]) < lengths[site.reads][:, None])[:, None, None]


def run_earlier(
    model: Model, batch: Batch, features: Float[Array, "batch visual width"], positions: Positions, knockout: Switches
) -> tuple[Left, Mapping[str, Array]]:
    """What the stacks before the main one leave under one configuration, and how many positions of each are real."""
    left: Left = {VISUAL: features}
    lengths: Mapping[str, Array] = {}
    output: Array | None = None
    for number, stack in enumerate(model.stacks[:-1]):
        inputs, name = batch.inputs[number], stack_name(stack)
        x = model.enter(number, inputs.tokens, inputs.ids, features, output)
        output = run_stack(model, number, x, inputs, left, lengths, positions, knockout)
        left, lengths = {**left, name: output}, {**lengths, name: jnp.asarray(inputs.length)}
    return left, lengths


def enter_main(model: Model, batch: Batch, left: Left, room: int = 0) -> Float[Array, "batch position width"]:
    """What the main stack's first block takes of the prompts, with room for generated positions behind them."""
    inputs = batch.inputs[-1]
    tokens = jnp.pad(inputs.tokens, ((0, 0), (0, room)))
    rows = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    before = left[stack_name(model.stacks[-2])] if len(model.stacks) > 1 else None
    return model.enter(len(model.stacks) - 1, tokens, ids_at(inputs, rows), left[VISUAL], before)


def forward(
    net: Network,
    batch: Batch,
    features: Float[Array, "batch visual width"],
    positions: Positions,
    knockout: Switches,
) -> Float[Array, "batch vocabulary"]:
    """Logits at the answer position under one configuration. Pure.

    Args:
        knockout: one configuration's switches, with a leading layer axis.
    """
    model = net.module()
    left, lengths = run_earlier(model, batch, features, positions, knockout)
    x, main = enter_main(model, batch, left), len(model.stacks) - 1
    hidden = run_stack(model, main, x, batch.inputs[main], left, lengths, positions, knockout)
    answer = jnp.take_along_axis(hidden, (batch.length - 1)[:, None, None], axis=1)[:, 0]
    return next_logits(model, answer)


def sweep_plain(
    net: Network,
    batch: Batch,
    positions: Positions,
    knockouts: Switches,
    at_once: int | None = None,
    count: int | None = None,
) -> Float[Array, "config batch vocabulary"]:
    """Logits at the answer position under every configuration.

    Args:
        knockouts: switches with a leading configuration axis.
        at_once: configurations evaluated side by side; None: all (memory grows with it, the result does not change).
        count: how many configurations there are; None: as many as the switches have, which must then have actions.
    """
    features = encode_images(net, batch.pixels)

    def one(number: Array) -> Array:
        return forward(net, batch, features, positions, layer_slice(knockouts, number))

    return _for_each(one, knockouts, at_once, count)


def _for_each(one: Callable[[Array], Tree], knockouts: Switches, at_once: int | None, count: int | None) -> Tree:
    numbers = jnp.arange(len(jax.tree.leaves(knockouts)[0]) if count is None else count)
    return jax.vmap(one)(numbers) if at_once is None else jax.lax.map(one, numbers, batch_size=at_once)


class AnswerLength(NamedTuple):
    """How long answers may be.

    Attributes:
        steps: most tokens of an answer.
        room: positions behind the padded prompts that its tokens may take, at least `steps - 1`.
    """

    steps: int
    room: int


def answers_plain(
    net: Network,
    batch: Batch,
    positions: Positions,
    knockouts: Switches,
    end_tokens: Int[Array, " end"],
    length: AnswerLength,
    at_once: int | None = None,
    count: int | None = None,
) -> tuple[Float[Array, "config batch vocabulary"], Int[Array, "config batch step"]]:
    """Greedy decoding under every configuration, a full pass for every token: (logits at the first answer position,
    tokens of the answers).

    Args:
        positions: with room behind the padded prompts.
        knockouts, count, at_once: see `sweep_plain`.
        end_tokens: ids that end an answer; the first of them fills the rest.
        length: of the answers.
    """
    features = encode_images(net, batch.pixels)

    def one(number: Array) -> tuple[Array, Array]:
        on = layer_slice(knockouts, number)
        return _decode(net.module(), batch, features, positions, on, end_tokens, length)

    return _for_each(one, knockouts, at_once, count)


def _decode(
    model: Model,
    batch: Batch,
    features: Float[Array, "batch visual width"],
    positions: Positions,
    knockout: Switches,
    end_tokens: Int[Array, " end"],
    length: AnswerLength,
) -> tuple[Float[Array, "batch vocabulary"], Int[Array, "batch step"]]:
    """As `answers_plain`, under one configuration."""
    main, inputs, (steps, room) = len(model.stacks) - 1, batch.inputs[-1], length
    left, lengths = run_earlier(model, batch, features, positions, knockout)
    prompts = enter_main(model, batch, left, room)
    rows = jnp.broadcast_to(jnp.arange(prompts.shape[1]), prompts.shape[:2])
    place = rows - inputs.length[:, None]

    def logits_at(step: Array, tokens: Array) -> Array:
        """The logits behind the prompts and the answers' first `step` tokens."""
        # A generated token is a word, even if it has the image token's id.
        generated = jnp.take_along_axis(tokens, jnp.clip(place, 0, steps - 1), axis=1)
        words = model.stacks[main].embed(generated, ids_at(inputs, rows))
        x = jnp.where((place < 0)[..., None], prompts, words)
        hidden = run_stack(model, main, x, inputs, left, lengths, positions, knockout)
        last = jnp.take_along_axis(hidden, (inputs.length - 1 + step)[:, None, None], axis=1)
        return next_logits(model, last[:, 0])

    def one_token(state: tuple[Array, Array]) -> tuple[Array, Array]:
        step, tokens = state
        following = jnp.argmax(logits_at(step, tokens), axis=-1).astype(tokens.dtype)
        ended = jnp.isin(tokens[:, step - 1], end_tokens)
        return step + 1, tokens.at[:, step].set(jnp.where(ended, end_tokens[0], following))

    def unfinished(state: tuple[Array, Array]) -> Array:
        step, tokens = state
        return (step < steps) & ~jnp.all(jnp.isin(tokens[:, step - 1], end_tokens))

    empty = jnp.full((len(inputs.length), steps), end_tokens[0])
    first = logits_at(jnp.array(0), empty)
    start = empty.at[:, 0].set(jnp.argmax(first, axis=-1).astype(empty.dtype))
    return first, jax.lax.while_loop(unfinished, one_token, (jnp.array(1), start))[1]
