"""The plain engine: `jax.vmap` of the pure forward pass over the knockout pytree. Slow, and obviously right.

It is the definition of a sweep, and what the fast engine is tested against.
"""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

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
