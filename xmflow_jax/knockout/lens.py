"""The logit lens: what a model would answer after every layer, read off the answer position of the base run.

As in the study (arXiv 2411.18620, answer tracking), a hidden state times the output embedding, softmax at temperature 1
in float32: raw, and through the final norm as well (nostalgebraist 2020). The study's state after the last layer is
normed already, as transformers returns it, so the last point of its raw curve is that of the normed one here.
"""

from functools import partial
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.knockout.fast.base_run import BaseRun
from xmflow_jax.machine.compiler import Program
from xmflow_jax.nn.network import Network

TOP: Final = 5


class Lens(NamedTuple):
    """What every hidden state of the answer position says: `state` 0 is the embedding, l + 1 what layer l puts out;
    `normed` 0 is raw, 1 through the final norm.

    Attributes:
        prob: of the words that are followed.
        top_tokens, top_prob: the most probable words, falling.
    """

    prob: Float[Array, "batch state 2 word"]
    top_tokens: Int[Array, "batch state 2 rank"]
    top_prob: Float[Array, "batch state 2 rank"]


@jax.jit
def read_answer_states(base: BaseRun, length: Int[Array, " batch"]) -> Float[Array, "batch state width"]:
    """The hidden states of each prompt's last position: the embedding, then every layer's output.

    Args:
        length: real positions of each prompt.
    """
    place = (length - 1 - base.first[-1])[None, :, None, None]
    inputs = jnp.take_along_axis(base.hidden[-1], place, axis=2)[:, :, 0]
    return jnp.concatenate([inputs, base.output[None]]).swapaxes(0, 1)


@partial(Program, static=("top",))
def read_lens(
    net: Network,
    states: Float[Array, "batch state width"],
    words: Int[Array, "batch word"],
    top: int = TOP,
) -> Lens:
    """Probabilities of some words, and the most probable ones, after every layer.

    Args:
        states: as of `read_answer_states`.
        words: token ids to follow.
        top: how many of the most probable words; at most the vocabulary.
    """
    model = net.module()
    most = min(top, jax.eval_shape(model.unembed, states[:, 0]).shape[-1])

    def read(state: Float[Array, "batch width"]) -> Lens:
        """One after the other: the logits of all states would be large."""
        both = jnp.stack([state, model.norm(state)], axis=1)
        prob = jax.nn.softmax(model.unembed(both), axis=-1)
        top_prob, top_tokens = jax.lax.top_k(prob, most)
        followed = jnp.take_along_axis(prob, words[:, None], axis=-1)
        return Lens(followed[:, None], top_tokens[:, None], top_prob[:, None])

    stacked = jax.lax.map(read, states.swapaxes(0, 1))
    return jax.tree.map(lambda part: part[:, :, 0].swapaxes(0, 1), stacked)
