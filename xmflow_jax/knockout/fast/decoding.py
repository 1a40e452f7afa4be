"""The base run's whole answers: greedy decoding from the keys and values that the base pass kept."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.fast.attention import SharedKeys
from xmflow_jax.knockout.fast.base_run import BASE_PARTS, BaseRun, attend_outside, by_position
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.knockout.positions import ids_at, real_positions, rotation_at
from xmflow_jax.machine.passes import FIRST, SECOND, SHARED, over_questions
from xmflow_jax.nn.anatomy import Site
from xmflow_jax.nn.attention import attend
from xmflow_jax.nn.interfaces import Block, KeysValues, Model, Span
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import every_row, layer_count, next_logits, nothing_dropped, run_layers
from xmflow_jax.nn.visibility import within

Tree = Any
# Of each group of blocks, keys and values of generated positions [layer, batch, step, kv_heads, head_width].
Generated = tuple[KeysValues | None, ...]


class Draft(NamedTuple):
    """The base run's answers, which serve every configuration as a draft of its own.

    Attributes:
        tokens: at most `step` of each answer, end tokens included; places after the end hold an end token.
        hidden: input of every layer of the main stack at the positions of these tokens, as far as they were read: the
            last one is not.
    """

    tokens: Int[Array, "batch step"]
    hidden: Float[Array, "layer batch step width"]


def decode_base(net: Network, base: BaseRun, batch: Batch, end_tokens: Int[Array, " end"], steps: int) -> Draft:
    """Greedy decoding with nothing blocked.

    Args:
        end_tokens: ids that end an answer; the first of them fills the rest.
        steps: most tokens of an answer.
    """
    model, size = net.module(), len(batch.length)
    added = model.added(len(model.stacks) - 1, batch.inputs[-1].tokens, base.features)
    first = greedy_token(base.logits)
    tokens = jnp.full((size, steps), end_tokens[0], first.dtype).at[:, 0].set(first)
    read = jnp.zeros((layer_count(model.stacks[-1]), size, steps, base.hidden[-1].shape[-1]), base.hidden[-1].dtype)

    def one_token(state: tuple[Tree, ...]) -> tuple[Tree, ...]:
        step, tokens, generated, read = state
        token = jax.lax.dynamic_index_in_dim(tokens, step, axis=1)
        x, generated, states = one_position(model, base, batch, token, step, generated, added)
        read = jax.lax.dynamic_update_slice_in_dim(read, states, step, axis=2)
        following = greedy_token(next_logits(model, x[:, 0]))
        following = jnp.where(jnp.isin(token[:, 0], end_tokens), end_tokens[0], following)
        return step + 1, tokens.at[:, step + 1].set(following), generated, read

    def unfinished(state: tuple[Tree, ...]) -> Array:
        step, tokens, *_ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=1)
        return (step < steps - 1) & ~jnp.all(jnp.isin(last, end_tokens))

    start = (jnp.array(0), tokens, no_keys(base, steps), read)
    _, tokens, _, read = jax.lax.while_loop(unfinished, one_token, start)
    return Draft(tokens, read)


def no_keys(base: BaseRun, steps: int) -> Generated:
    """Room for the keys and values of generated positions."""
    room: list[KeysValues | None] = []
    for own in base.keys[-1].own:
        if own is None:
            room.append(None)
            continue
        layers, kv_heads, batch, _, width = own.value.shape
        empty = jnp.zeros((layers, batch, steps, kv_heads, width), own.key.dtype)
        room.append((empty, empty))
    return tuple(room)


def one_position(
    model: Model,
    base: BaseRun,
    batch: Batch,
    token: Int[Array, "batch 1"],
    step: Int[Array, ""],
    generated: Generated,
    added: Float[Array, "batch position added"] | None,
) -> tuple[Float[Array, "batch 1 width"], Generated, Float[Array, "layer batch 1 width"]]:
    """A generated token through the main stack: (the last block's output, keys and values with its own, every layer's
    input).

    Args:
        added: what blocks add at the prompts' positions (`interfaces.Model.added`).
    """
    stack, inputs = model.stacks[-1], batch.inputs[-1]
    place = inputs.length[:, None] + step
    rotation = rotation_at(stack, inputs, place, added)
    steps = max((own[0].shape[2] for own in generated if own is not None), default=0)

    def layer(x: Array, block: Block, group: int, index: Any) -> tuple[Array, Tree]:
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
                real = real_positions(model, batch, site.reads)
                return attend_outside(query, layer_slice(base.keys[-1].outside[group], index), scale, softcap, real)
            before, known = layer_slice(base.keys[-1].own[group], index), layer_slice(generated[group], index)
            put = [jax.lax.dynamic_update_slice_in_dim(old, new, step, 1) for old, new in zip(known, own, strict=True)]
            kept.append((put[0], put[1]))
            keys, values = behind(before, (put[0], put[1]))
            seen = decoding_sight(before.value.shape[2], inputs.length, steps, step, span)
            return attend(query, keys, values, scale, seen, softcap=softcap)

        put_out = block(x, rotation, attend_at, nothing_dropped, every_row)
        return put_out, (kept[0] if kept else None, x)

    x, by_group = run_layers(stack, stack.embed(token, ids_at(inputs, place)), layer, 0, layer_count(stack))
    states = [hidden for _, hidden in by_group]
    whole = jnp.concatenate(states) if len(states) > 1 else states[0]
    return x, tuple(own for own, _ in by_group), whole


def behind(before: SharedKeys, generated: KeysValues) -> KeysValues:
    """The prompt's keys and values, and the generated positions' behind them [batch, position, kv_heads, width]."""
    key, value = (jnp.concatenate([old, new], axis=1) for old, new in zip(by_position(before), generated, strict=True))
    return key, value


def decoding_sight(
    padded: int, length: Int[Array, " batch"], steps: int, step: Int[Array, ""], span: Span | None
) -> Bool[Array, "batch 1 1 source"]:
    """The sources that a generated position sees: of the padded prompt the real ones, and the answer up to itself."""
    prompt, answer = jnp.arange(padded), jnp.arange(steps)
    seen = jnp.concatenate([prompt < length[:, None], jnp.broadcast_to(answer <= step, (len(length), steps))], axis=1)
    if span is not None:
        places = jnp.concatenate([jnp.broadcast_to(prompt, (len(length), padded)), length[:, None] + answer], axis=1)
        seen &= within((length[:, None] + step) - places, span)
    return seen[:, None, None]


greedy_draft = over_questions(
    decode_base,
    {"net": SHARED, "base": BASE_PARTS, "batch": FIRST, "end_tokens": SHARED},
    Draft._make((FIRST, SECOND)),
    ["steps"],
)
