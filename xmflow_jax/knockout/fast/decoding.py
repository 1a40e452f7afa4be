"""The base run's whole answers: greedy decoding from the keys and values that the base pass kept."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.fast.passes import BASE_PARTS, BaseRun
from xmflow_jax.knockout.greedy import greedy_token
from xmflow_jax.machine.passes import FIRST, SECOND, SHARED, over_questions
from xmflow_jax.nn.attention import attend
from xmflow_jax.nn.layers import split_blocks

Tree = Any


class Draft(NamedTuple):
    """The base run's answers, which serve every configuration as a draft of its own.

    Attributes:
        tokens: at most `step` of each answer, end tokens included; places after the end hold an end token.
        hidden: input of every layer at the positions of these tokens, as far as they were read: the last one is not.
    """

    tokens: Int[Array, "batch step"]
    hidden: Float[Array, "layer batch step width"]


@partial(jax.jit, static_argnames=("graphdef", "steps"))
def greedy_answers(
    graphdef: Any, params: Tree, base: BaseRun, length: Int[Array, " batch"], end_tokens: Int[Array, " end"], steps: int
) -> Int[Array, "batch step"]:
    """The tokens of `greedy_draft`."""
    tokens: Array = greedy_draft(graphdef, params, base, length, end_tokens, steps).tokens
    return tokens


def decode_base(
    graphdef: Any, params: Tree, base: BaseRun, length: Int[Array, " batch"], end_tokens: Int[Array, " end"], steps: int
) -> Draft:
    """Greedy decoding with nothing blocked.

    Args:
        length: real positions of each prompt.
        end_tokens: ids that end an answer; the first of them fills the rest.
        steps: most tokens of an answer.
    """
    decoder = nnx.merge(graphdef, params).language_model
    block_of, stacked = split_blocks(decoder.layers)
    layers, batch, kv_heads, positions, width = base.value.shape
    first = greedy_token(base.logits)
    tokens = jnp.full((batch, steps), end_tokens[0], first.dtype).at[:, 0].set(first)
    new = jnp.zeros((layers, batch, steps, kv_heads, width), base.key.dtype)
    read = jnp.zeros((layers, batch, steps, base.hidden.shape[-1]), base.hidden.dtype)

    def one_token(state: tuple[Array, ...]) -> tuple[Array, ...]:
        step, tokens, new_key, new_value, read = state
        token = jax.lax.dynamic_index_in_dim(tokens, step, axis=1)
        rotation = decoder.rotation((length + step)[:, None])
        allowed = jnp.concatenate(
            [
                jnp.arange(positions) < length[:, None],
                jnp.broadcast_to(jnp.arange(steps) <= step, (batch, steps)),
            ],
            axis=1,
        )[:, None, None, :]

        def layer(x: Array, inputs: tuple[Tree, ...]) -> tuple[Array, tuple[Array, Array, Array]]:
            before = x
            parameters, base_key, base_value, own_key, own_value, visual = inputs
            block = block_of(parameters)
            query = block.queries(x, rotation)
            key, value = block.keys_values(x, rotation)
            own_key = jax.lax.dynamic_update_slice_in_dim(own_key, key, step, axis=1)
            own_value = jax.lax.dynamic_update_slice_in_dim(own_value, value, step, axis=1)
            keys = jnp.concatenate([jnp.moveaxis(base_key, 3, 1), own_key], axis=1)
            values = jnp.concatenate([base_value.swapaxes(1, 2), own_value], axis=1)
            x = x + block.attention_output(attend(query, keys, values, block.scale, allowed))
            if visual is not None:
                visual_key, visual_value = visual
                attended = attend(block.cross_queries(x), visual_key, visual_value, block.cross_scale)
                x = x + block.cross_output(attended)
            return x + block.mlp_output(x), (own_key, own_value, before)

        x = decoder.embed(token, (length + step)[:, None])
        own = (stacked, base.key, base.value, new_key, new_value, base.visual)
        x, (new_key, new_value, states) = jax.lax.scan(layer, x, own)
        read = jax.lax.dynamic_update_slice_in_dim(read, states, step, axis=2)
        following = greedy_token(decoder.logits(x[:, 0]))
        ended = jnp.isin(token[:, 0], end_tokens)
        following = jnp.where(ended, end_tokens[0], following)
        return step + 1, tokens.at[:, step + 1].set(following), new_key, new_value, read

    def unfinished(state: tuple[Array, ...]) -> Array:
        step, tokens, *_ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=1)
        return (step < steps - 1) & ~jnp.all(jnp.isin(last, end_tokens))

    start: tuple[Array, ...] = (jnp.array(0), tokens, new, new, read)
    _, tokens, _, _, read = jax.lax.while_loop(unfinished, one_token, start)
    return Draft(tokens, read)


greedy_draft = over_questions(
    decode_base,
    {"params": SHARED, "base": BASE_PARTS, "length": FIRST, "end_tokens": SHARED},
    Draft._make((FIRST, SECOND)),
    ["graphdef", "steps"],
)
