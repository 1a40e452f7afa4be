"""A study on one batch of prompts, from prompts to measures, with either engine.

The base run comes first and its answers are handed to the caller, who says which questions go on: a question that is
not selected costs no knockout unless another one of its batch is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from xmflow_jax.data.batch import Prompt, build_batch
from xmflow_jax.knockout import FAST
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.configuration import Action
from xmflow_jax.knockout.decode import greedy_answers
from xmflow_jax.knockout.fast import encode, knock_out, run_base
from xmflow_jax.knockout.measure import Measured, measure
from xmflow_jax.knockout.plain import sweep_plain
from xmflow_jax.knockout.plan import Study, impossible_actions, place_study

Tree = Any

# Configurations that the plain engine evaluates side by side.
PLAIN_AT_ONCE = 8

_sweep_plain = jax.jit(sweep_plain, static_argnames=("graphdef", "at_once"))


@dataclass(frozen=True)
class Answered:
    """A batch's answers.

    Attributes:
        selected: which prompts went on; the knockouts of the others mean nothing.
        measured: first tokens and their probabilities, as numpy; None if no prompt was selected.
        impossible: for each prompt, the actions that causality makes impossible in it.
    """

    selected: Bool[np.ndarray, " batch"]
    measured: Measured | None
    impossible: list[set[Action]]


def answer_batch(
    graphdef: Any,
    params: Tree,
    prompts: Sequence[Prompt],
    study: Study,
    end_tokens: Sequence[int],
    answer_length: int,
    select: Callable[
        [Int[np.ndarray, "batch step"], Float[np.ndarray, "batch vocabulary"]], Bool[np.ndarray, " batch"]
    ],
    engine: str = FAST,
    full_size: int = 0,
) -> Answered:
    """Base run, selection, knockouts.

    Args:
        full_size: a smaller batch is filled up to this size with its last prompt, since another size would have to be
            compiled anew.
        end_tokens: ids that end an answer.
        answer_length: most tokens of a base answer.
        select: from the base answers' tokens and the base logits, which prompts go on.
    """
    own = len(prompts)
    prompts = [*prompts, *[prompts[-1]] * (full_size - own)]
    batch = build_batch(prompts)
    positions = build_positions([prompt.roles for prompt in prompts], study.actions, batch.tokens.shape[1])
    impossible = impossible_actions(positions, study.actions, batch.length)[:own]
    placement = place_study(study, positions, batch.length, batch.tokens.shape[1])
    features = encode(graphdef, params, batch.pixels)
    base = run_base(graphdef, params, batch.tokens, batch.length, features, placement.first, rows=placement.rows)
    answers = greedy_answers(graphdef, params, base, batch.length, np.asarray(end_tokens, np.int32), answer_length)
    selected = select(np.asarray(answers)[:own], np.asarray(base.logits)[:own])
    if not selected.any():
        return Answered(selected, None, impossible)
    if engine == FAST:
        logits = knock_out(graphdef, params, base, study, placement, batch, positions)
    else:
        logits = _sweep_plain(graphdef, params, batch, positions, study.switches, at_once=PLAIN_AT_ONCE)
        logits = logits.swapaxes(0, 1)
    measured = jax.device_get(measure(base.logits, logits))
    return Answered(selected, jax.tree.map(lambda part: part[:own], measured), impossible)
