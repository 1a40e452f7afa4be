"""A model's plain pass over tokens that are all real, with what it computes on the way."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xmflow_jax.data.batch import StackInput
from xmflow_jax.knockout.fast.base_run import read_outside, run_stack
from xmflow_jax.knockout.plain import encode_images
from xmflow_jax.machine.compiler import Program
from xmflow_jax.nn.anatomy import VISUAL
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import next_logits


class FullPass(NamedTuple):
    """Of a model of one stack.

    Attributes:
        inputs: of every layer.
        output: of the last one, before the final norm.
        normed: behind it.
        logits: of every position.
    """

    inputs: Float[Array, "layer batch position width"]
    output: Float[Array, "batch position width"]
    normed: Float[Array, "batch position width"]
    logits: Float[Array, "batch position vocabulary"]


@Program
def full_pass(
    net: Network,
    tokens: Int[Array, "batch position"],
    pixels: Any,
    ids: Int[Array, "batch axis position"] | None = None,
    blocks: Int[Array, "batch position"] | None = None,
) -> FullPass:
    """Nothing is blocked. By default ids are 0, 1, ... and attention is causal.

    Args:
        pixels: [images, height, width, 3], as many for each prompt, one prompt's after another's; or a tree as in
            `Batch.pixels`; None: the model sees none.
    """
    model = net.module()
    (stack,) = model.stacks
    batch, length = tokens.shape
    ids = jnp.broadcast_to(jnp.arange(length), (batch, 1, length)) if ids is None else ids
    inputs = StackInput(tokens, jnp.full(batch, length), ids, jnp.zeros(batch, int), blocks, jnp.zeros(batch, int))
    if pixels is None:
        x, outside, added = stack.embed(tokens, ids), (None,) * len(stack.groups), None
    else:
        if isinstance(pixels, jax.Array):
            pixels = pixels.reshape(batch, -1, *pixels.shape[1:])
        features = encode_images(net, pixels)
        x, outside = model.enter(0, tokens, ids, features, None), read_outside(stack, {VISUAL: features})
        added = model.added(0, tokens, features)
    kept = jnp.zeros(batch, int), length
    output, _, hidden = run_stack(stack, x, inputs, outside, {}, added, kept, answer_only=False)
    return FullPass(hidden, output, model.norm(output), next_logits(model, output))


def answer_logits(net: Network, tokens: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Those of the last position."""
    return np.asarray(full_pass(net, jnp.asarray(tokens), jnp.asarray(pixels)).logits[:, -1])
