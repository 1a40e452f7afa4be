"""The plain engine: `jax.vmap` of the pure forward pass over the knockout pytree. Slow, and obviously right.

It is the definition of a sweep, and what the fast engine is tested against.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.arrays import Positions, Switches, layer_edit, refuse_cross_attention

Tree = Any


def encode_images(graphdef: Any, params: Tree, pixels: Float[Array, "batch images height width 3"]) -> Array:
    """Visual features [batch, images * positions, width] of every prompt."""
    model = nnx.merge(graphdef, params)
    features = model.image_features(pixels.reshape(-1, *pixels.shape[2:]))
    return features.reshape(pixels.shape[0], -1, features.shape[-1])


def forward(
    graphdef: Any,
    params: Tree,
    batch: Batch,
    features: Float[Array, "batch visual model"],
    positions: Positions,
    knockout: Switches,
) -> Float[Array, "batch vocabulary"]:
    """Logits at the answer position under one configuration. Pure.

    Args:
        knockout: one configuration's switches, with a leading layer axis.
    """
    model = nnx.merge(graphdef, params)
    if model.visual_keys_values(features) is None:
        refuse_cross_attention(knockout)
    return model.logits_at(
        batch.tokens, features, batch.length - 1, knockout, lambda layer: layer_edit(layer, positions)
    )


def sweep_plain(
    graphdef: Any,
    params: Tree,
    batch: Batch,
    positions: Positions,
    knockouts: Switches,
    at_once: int | None = None,
) -> Float[Array, "config batch vocabulary"]:
    """Logits at the answer position under every configuration.

    Args:
        knockouts: switches with a leading configuration axis.
        at_once: configurations evaluated side by side; None: all (memory grows with it, the result does not change).
    """
    features = encode_images(graphdef, params, batch.pixels)

    def one(knockout: Switches) -> Array:
        return forward(graphdef, params, batch, features, positions, knockout)

    if at_once is None:
        return jax.vmap(one)(knockouts)
    return jax.lax.map(one, knockouts, batch_size=at_once)


def answers_plain(
    graphdef: Any,
    params: Tree,
    batch: Batch,
    positions: Positions,
    knockouts: Switches,
    end_tokens: Int[Array, " end"],
    steps: int,
    at_once: int | None = None,
) -> tuple[Float[Array, "config batch vocabulary"], Int[Array, "config batch step"]]:
    """Greedy decoding under every configuration, a full pass for every token: (logits at the first answer position,
    tokens of the answers).

    Args:
        positions: with the generated positions, at least `steps - 1` of them behind the longest prompt.
        knockouts: switches with a leading configuration axis.
        end_tokens: ids that end an answer; the first of them fills the rest.
        steps: most tokens of an answer.
        at_once: see `sweep_plain`.
    """
    model = nnx.merge(graphdef, params)
    decoder = model.language_model
    features = encode_images(graphdef, params, batch.pixels)
    visual = model.visual_keys_values(features)
    if visual is None:
        refuse_cross_attention(knockouts)
    room = positions.mask_target.shape[-1] - batch.tokens.shape[1]
    prompts = model.embed(jnp.pad(batch.tokens, ((0, 0), (0, room))), features)
    place = jnp.arange(prompts.shape[1]) - batch.length[:, None]

    def logits_at(step: Array, tokens: Array, knockout: Switches) -> Array:
        """The logits behind the prompts and the answers' first `step` tokens."""
        # A generated token is a word, even if it has the image token's id.
        generated = jnp.take_along_axis(tokens, jnp.clip(place, 0, steps - 1), axis=1)
        words = decoder.embed(generated, jnp.arange(prompts.shape[1])[None])
        x = jnp.where((place < 0)[..., None], prompts, words)
        hidden, _ = decoder.run(x, knockout, lambda layer: layer_edit(layer, positions), visual=visual)
        last = jnp.take_along_axis(hidden, (batch.length - 1 + step)[:, None, None], axis=1)
        return decoder.logits(last[:, 0])

    def one(knockout: Switches) -> tuple[Array, Array]:
        empty = jnp.full((len(batch.length), steps), end_tokens[0])
        first = logits_at(jnp.array(0), empty, knockout)

        def one_token(state: tuple[Array, Array]) -> tuple[Array, Array]:
            step, tokens = state
            following = jnp.argmax(logits_at(step, tokens, knockout), axis=-1).astype(tokens.dtype)
            ended = jnp.isin(tokens[:, step - 1], end_tokens)
            return step + 1, tokens.at[:, step].set(jnp.where(ended, end_tokens[0], following))

        def unfinished(state: tuple[Array, Array]) -> Array:
            step, tokens = state
            return (step < steps) & ~jnp.all(jnp.isin(tokens[:, step - 1], end_tokens))

        start = empty.at[:, 0].set(jnp.argmax(first, axis=-1).astype(empty.dtype))
        return first, jax.lax.while_loop(unfinished, one_token, (jnp.array(1), start))[1]

    if at_once is None:
        return jax.vmap(one)(knockouts)
    return jax.lax.map(one, knockouts, batch_size=at_once)
