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
from xmflow_jax.knockout.fast.base_run import BaseRun
from xmflow_jax.knockout.fast.decoding import Draft, greedy_draft
from xmflow_jax.knockout.fast.drafts import generated_room
from xmflow_jax.knockout.fast.engine import (
    PLAIN_AT_ONCE,
    Placed,
    knock_out,
    knock_out_answers,
    run_answers_plain,
    run_base_of,
)
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.reach import impossible_actions
from xmflow_jax.knockout.kinds.kind import Action
from xmflow_jax.knockout.lens import read_answer_states
from xmflow_jax.knockout.measure import Margins, Measured, measure, measure_margins
from xmflow_jax.knockout.plain import AnswerLength, sweep_plain
from xmflow_jax.knockout.study import Study
from xmflow_jax.machine.passes import FIRST, SECOND, SHARED, over_questions, to_host
from xmflow_jax.nn.network import Network

_sweep_plain = over_questions(
    sweep_plain,
    {"net": SHARED, "batch": FIRST, "positions": FIRST, "knockouts": SHARED},
    SECOND,
    ["at_once", "count"],
)

# From the base answers' tokens and the base logits, which prompts go on.
Select = Callable[[Int[np.ndarray, "batch step"], Float[np.ndarray, "batch vocabulary"]], Bool[np.ndarray, " batch"]]


@dataclass(frozen=True)
class Request:
    """What is asked of every question of a study.

    Attributes:
        study: the configurations.
        end_tokens: ids that end an answer.
        answer_length: most tokens of an answer.
        engine: FAST or PLAIN.
        whole_answers: decode whole answers under every configuration; else their first token alone, which is cheaper.
    """

    study: Study
    end_tokens: Sequence[int]
    answer_length: int
    engine: str = FAST
    whole_answers: bool = True

    @property
    def steps(self) -> int:
        """Most tokens of an answer under knockout."""
        return self.answer_length if self.whole_answers else 1


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
    net: Network,
    prompts: Sequence[Prompt],
    request: Request,
    select: Select,
    options: Callable[[Int[np.ndarray, "batch step"]], Int[np.ndarray, "batch 2"]] | None = None,
    full_size: int = 0,
    keys: Sequence[int] | None = None,
) -> Answered:
    """Base run, selection, knockouts.

    A knockout is in force for generated positions too: see `RoleSet.generated`.

    Args:
        select: asked once, with the base answers.
        options: from the base answers' tokens, the two tokens of each prompt whose log-odds are measured; asked after
            `select`.
        full_size: a smaller batch is filled up to this size with its last prompt, since another size would have to be
            compiled anew.
        keys: each prompt's own number (`controls.question_key`); needed where the study has matched controls.
    """
    own = len(prompts)
    if keys is not None:
        keys = [*keys, *[keys[-1]] * (full_size - own)]
    placed = place_prompts(net, [*prompts, *[prompts[-1]] * (full_size - own)], request, keys)
    impossible = impossible_actions(request.study, placed.positions, placed.batch)[:own]
    base = run_base_of(placed)
    ends = np.asarray(request.end_tokens, np.int32)
    draft = greedy_draft(net, base, placed.batch, ends, request.answer_length)
    selected = select(to_host(draft.tokens)[:own], to_host(base.logits)[:own])
    if not selected.any():
        return Answered(selected, None, None, None, impossible, None)
    logits, tokens = _knocked_out(placed, request, base, draft, selected)
    measured, margins = to_host(measure(base.logits, logits)), None
    if options is not None:
        pairs = np.pad(options(to_host(draft.tokens)[:own]), ((0, len(placed.batch.length) - own), (0, 0)))
        margins = to_host(measure_margins(base.logits, logits, pairs))
    if request.whole_answers and tokens is None:
        tokens = measured.knockout_token[..., None]
    measured, margins, tokens = jax.tree.map(lambda part: part[:own], to_host((measured, margins, tokens)))
    states = read_answer_states(base, placed.batch.length)
    return Answered(selected, measured, margins, tokens, impossible, states)


def place_prompts(net: Network, prompts: Sequence[Prompt], request: Request, keys: Sequence[int] | None) -> Placed:
    """A study on one batch of prompts, with room for its answers."""
    batch, steps, study = build_batch(prompts), request.steps, request.study
    room = batch.tokens.shape[1] + generated_room(steps)
    positions = build_positions(prompts, study.actions, room, steps - 1, keys)
    return Placed(net, study, batch, positions, place_study(study, positions, batch, steps - 1))


def _knocked_out(
    placed: Placed, request: Request, base: BaseRun, draft: Draft, selected: Bool[np.ndarray, " own"]
) -> tuple[Float[Any, "batch config vocabulary"], Int[Any, "batch config step"] | None]:
    """Logits at the first answer position and, where they are asked for and have more than one token, whole answers."""
    study, steps, count = request.study, request.steps, len(request.study.knockouts)
    if request.engine == FAST and steps > 1:
        wanted = np.pad(selected, (0, len(placed.batch.length) - len(selected)))
        logits, tokens, _ = knock_out_answers(placed, base, draft, request.end_tokens, wanted)
        return logits, tokens
    if request.engine == FAST:
        return knock_out(placed, base), None
    given = (placed.net, placed.batch, placed.positions, study.switches)
    if steps == 1:
        return _sweep_plain(*given, at_once=PLAIN_AT_ONCE, count=count).swapaxes(0, 1), None
    ends, length = np.asarray(request.end_tokens, np.int32), AnswerLength(steps, generated_room(steps))
    found = run_answers_plain(*given, ends, length=length, at_once=PLAIN_AT_ONCE, count=count)
    logits, tokens = (part.swapaxes(0, 1) for part in found)
    return logits, tokens
