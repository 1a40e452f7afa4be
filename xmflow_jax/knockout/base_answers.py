"""Whole answers with nothing blocked: the base run of a study on its own, for accuracy without knockouts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.batch import Prompt, build_batch
from xmflow_jax.knockout.fast.decoding import greedy_draft
from xmflow_jax.knockout.fast.engine import encode, run_base
from xmflow_jax.machine.passes import to_host
from xmflow_jax.nn.network import Network


class BaseAnswers(NamedTuple):
    """A batch's base answers.

    Attributes:
        tokens: at most `step` of each answer, end tokens included; places after the end hold an end token.
        finite: whether the logits at the answer position are numbers; the tokens of the others mean nothing.
    """

    tokens: Int[np.ndarray, "batch step"]
    finite: Bool[np.ndarray, " batch"]


def answer_base(
    net: Network,
    prompts: Sequence[Prompt],
    end_tokens: Sequence[int],
    answer_length: int,
    full_size: int = 0,
) -> BaseAnswers:
    """A batch through the image encoder, base pass and greedy decoding, padded as in `batch_answers.answer_batch`.

    Args:
        end_tokens: ids that end an answer.
        answer_length: most tokens of an answer.
        full_size: a smaller batch is filled up to this size with its last prompt, since another size would have to be
            compiled anew.
    """
    own = len(prompts)
    batch = build_batch([*prompts, *[prompts[-1]] * (full_size - own)])
    features = encode(net, batch.pixels)
    # No configuration restarts from this base run, so of the hidden states the fewest rows are kept.
    first = tuple(inputs.length - 1 for inputs in batch.inputs)
    base = run_base(net, batch, features, first, rows=(1,) * len(first))
    ends: Any = np.asarray(end_tokens, np.int32)
    tokens = greedy_draft(net, base, batch, ends, answer_length).tokens
    return BaseAnswers(to_host(tokens)[:own], np.isfinite(to_host(base.logits)[:own]).all(axis=-1))
