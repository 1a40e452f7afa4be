"""What is read off the logits: the base run's first token, and what a knockout does to its probability."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.greedy import greedy_token


class Measured(NamedTuple):
    """The study's measure (arXiv 2411.18620): softmax at temperature 1 at the first answer position.

    Attributes:
        base_token: argmax of the base run.
        base_prob: its probability there.
        knockout_token: argmax under each configuration.
        knockout_prob: probability of `base_token` (not of `knockout_token`) under each configuration.
    """

    base_token: Int[Array, " batch"]
    base_prob: Float[Array, " batch"]
    knockout_token: Int[Array, "batch config"]
    knockout_prob: Float[Array, "batch config"]


@jax.jit
def measure(base: Float[Array, "batch vocabulary"], knockout: Float[Array, "batch config vocabulary"]) -> Measured:
    """Tokens and probabilities from logits."""
    token = greedy_token(base)
    base_prob = jnp.take_along_axis(jax.nn.softmax(base, axis=-1), token[:, None], axis=-1)[:, 0]
    prob = jnp.take_along_axis(jax.nn.softmax(knockout, axis=-1), token[:, None, None], axis=-1)[..., 0]
    return Measured(token, base_prob, greedy_token(knockout), prob)


class Margins(NamedTuple):
    """Log-odds of one token over another at the first answer position: natural logarithm, no unit, and
    NaN where there are no such tokens.

    Attributes:
        base: of the base run.
        knockout: under each configuration.
    """

    base: Float[Array, " batch"]
    knockout: Float[Array, "batch config"]


@jax.jit
def measure_margins(
    base: Float[Array, "batch vocabulary"],
    knockout: Float[Array, "batch config vocabulary"],
    options: Int[Array, "batch 2"],
) -> Margins:
    """log p(first) - log p(second), which is the difference of their logits: the softmax's sum cancels.

    Args:
        options: token ids; those of a prompt without such tokens are negative.
    """
    known, (first, second) = (options >= 0).all(axis=-1, keepdims=True), jnp.maximum(options, 0).T

    def of(logits: Float[Array, "batch some vocabulary"]) -> Float[Array, "batch some"]:
        chosen = [jnp.take_along_axis(logits, one[:, None, None], axis=-1)[..., 0] for one in (first, second)]
        return jnp.where(known, chosen[0] - chosen[1], jnp.nan)

    return Margins(of(base[:, None])[:, 0], of(knockout))
