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
from xmflow_jax.knockout.actions import Action
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.fast.decoding import greedy_draft
from xmflow_jax.knockout.fast.drafts import generated_room
from xmflow_jax.knockout.fast.engine import encode, knock_out, knock_out_answers, run_base
from xmflow_jax.knockout.fast.placement import Study, impossible_actions, place_study
from xmflow_jax.knockout.lens import read_answer_states
from xmflow_jax.knockout.measure import Margins, Measured, measure, measure_margins
from xmflow_jax.knockout.plain import answers_plain, sweep_plain
from xmflow_jax.machine.passes import FIRST, SECOND, SHARED, over_questions, to_host

Tree = Any

# Configurations that the plain engine evaluates side by side.
PLAIN_AT_ONCE = 8

_PLAIN = {"params": SHARED, "batch": FIRST, "positions": FIRST, "knockouts": SHARED}
_sweep_plain = over_questions(sweep_plain, _PLAIN, SECOND, ["graphdef", "at_once"])
_answers_plain = over_questions(
    answers_plain, {**_PLAIN, "end_tokens": SHARED}, (SECOND, SECOND), ["graphdef", "steps", "at_once"]
)


@dataclass(frozen=True)
class Answered:
    """A batch's answers.

    Attributes:
        selected: which prompts went on; the knockouts of the others mean nothing.
        measured: first tokens and their probabilities, as numpy; None if no prompt was selected.
        margins: of the options, as numpy; None if no prompt was selected, or no options were asked for.
        tokens: of whole answers under knockout, at most `step` of each, end tokens included; places after the end hold
            an end token. None if no prompt was selected, or only first tokens were asked for.
        impossible: for each prompt, the actions that causality makes impossible in it.
        states: of the base run at the answer position, for the logit lens, on the device; a batch that was filled up
            has the fillers' too. None if no prompt was selected.
    """

    selected: Bool[np.ndarray, " batch"]
    measured: Measured | None
    margins: Margins | None
    tokens: Int[np.ndarray, "batch config step"] | None
    impossible: list[set[Action]]
    states: Float[jax.Array, "full state width"] | None


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
    whole_answers: bool = True,
    keys: Sequence[int] | None = None,
    options: Callable[[Int[np.ndarray, "batch step"]], Int[np.ndarray, "batch 2"]] | None = None,
) -> Answered:
    """Base run, selection, knockouts.

    A knockout is in force for generated positions too: see `RoleSet.generated`.

    Args:
        full_size: a smaller batch is filled up to this size with its last prompt, since another size would have to be
            compiled anew.
        end_tokens: ids that end an answer.
        answer_length: most tokens of an answer.
        select: from the base answers' tokens and the base logits, which prompts go on.
        whole_answers: decode whole answers under every configuration; else their first token alone, which is cheaper.
        keys: each prompt's own number (`controls.question_key`); needed where the study has matched controls.
        options: from the base answers' tokens, the two tokens of each prompt whose log-odds are measured; asked after
            `select`.
    """
    own = len(prompts)
    if keys is not None:
        keys = [*keys, *[keys[-1]] * (full_size - own)]
    prompts = [*prompts, *[prompts[-1]] * (full_size - own)]
    batch = build_batch(prompts)
    padded, steps = batch.tokens.shape[1], answer_length if whole_answers else 1
    room = padded + generated_room(steps)
    positions = build_positions([prompt.roles for prompt in prompts], study.actions, room, steps - 1, keys)
    impossible = impossible_actions(positions, study.actions, batch.length)[:own]
    placement = place_study(study, positions, batch.length, padded, steps - 1)
    features = encode(graphdef, params, batch.pixels)
    base = run_base(graphdef, params, batch.tokens, batch.length, features, placement.first, rows=placement.rows)
    ends = np.asarray(end_tokens, np.int32)
    draft = greedy_draft(graphdef, params, base, batch.length, ends, answer_length)
    selected = select(to_host(draft.tokens)[:own], to_host(base.logits)[:own])
    if not selected.any():
        return Answered(selected, None, None, None, impossible, None)
    tokens: Any = None
    if engine == FAST and steps > 1:
        wanted = np.pad(selected, (0, len(prompts) - own))
        drafted = (graphdef, params, base, draft, study, placement, batch, positions)
        logits, tokens, _ = knock_out_answers(*drafted, end_tokens, wanted)
    elif engine == FAST:
        logits = knock_out(graphdef, params, base, study, placement, batch, positions)
    elif steps > 1:
        arguments = (graphdef, params, batch, positions, study.switches, ends)
        found = _answers_plain(*arguments, steps=steps, at_once=PLAIN_AT_ONCE)
        logits, tokens = (part.swapaxes(0, 1) for part in found)
    else:
        logits = _sweep_plain(graphdef, params, batch, positions, study.switches, at_once=PLAIN_AT_ONCE)
        logits = logits.swapaxes(0, 1)
    measured, margins = to_host(measure(base.logits, logits)), None
    if options is not None:
        pairs = np.pad(options(to_host(draft.tokens)[:own]), ((0, len(prompts) - own), (0, 0)))
        margins = to_host(measure_margins(base.logits, logits, pairs))
    if whole_answers and tokens is None:
        tokens = measured.knockout_token[..., None]
    measured, margins, tokens = jax.tree.map(lambda part: part[:own], to_host((measured, margins, tokens)))
    return Answered(selected, measured, margins, tokens, impossible, read_answer_states(base, batch.length))
