"""The engines checked on this model, this machine and the study's first question, before hours are spent on them.

Three things, on a handful of the study's own configurations: blocked attention weights are exactly zero, the empty
knockout is the base run, and the fast engine gives what the plain one gives. The fast engine's passes are the very
programs that the study goes on to use, so that compiling them is not paid for twice: for whole answers, the logits at
the first answer position are compared as they come out of the passes that read the base answer behind the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import jax
import numpy as np
from jaxtyping import Float

from xmflow_jax.data.batch import Batch, build_batch
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.errors import SelfCheckError
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, TOGETHER
from xmflow_jax.knockout.arrays import Positions, build_positions, build_switches
from xmflow_jax.knockout.fast import engine
from xmflow_jax.knockout.fast.base_run import BaseRun
from xmflow_jax.knockout.fast.decoding import Draft, greedy_draft
from xmflow_jax.knockout.fast.drafts import answer_lengths, generated_room, tokens_checked
from xmflow_jax.knockout.fast.engine import Placed
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.reach import impossible_actions
from xmflow_jax.knockout.plain import sweep_plain
from xmflow_jax.knockout.study import Study, build_study
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.machine.compiler import Program
from xmflow_jax.machine.passes import to_host
from xmflow_jax.study.blocked_weights import Probe, blocked_weights_fast, blocked_weights_plain, key_of, probes
from xmflow_jax.weights.load import LoadedModel

# Largest difference of two engines' logits, over the largest magnitude of the base run's. Both compute the same sums in
# another order; in bfloat16 every hidden state is rounded to 8 bits.
TOLERANCE: Final = {"float32": 1e-4, "bfloat16": 5e-2}

# About how many configurations the plain engine computes, each of them a full pass.
HANDFUL: Final = 12

_run_plain = Program(sweep_plain, ("at_once", "count"))


@dataclass(frozen=True, eq=False)
class _Checked:
    """One question as the study runs it: in a batch of the study's size, all of it this question.

    Attributes:
        placed: the study on the batch, with the generated positions.
        positions: of the prompt alone.
        draft: the base answer, where whole answers are asked for; `checked` tokens of it are checked.
    """

    model: LoadedModel
    prompt: PreparedQuestion
    placed: Placed
    positions: Positions
    base: BaseRun
    draft: Draft | None
    checked: int

    def logits(self, placed: Placed) -> Float[np.ndarray, "config word"]:
        """The fast engine's, of the first prompt.

        Raises:
            SelfCheckError: a whole answer does not begin with the token that these logits make the likeliest.
        """
        if self.draft is None:
            return np.asarray(to_host(engine.knock_out(placed, self.base))[0])
        found = engine.knock_out_drafted(placed, self.base, self.draft, self.checked)
        logits, first = to_host(found.logits)[0], to_host(found.following)[0, :, 0]
        differing = int((logits.argmax(-1) != first).sum())
        if differing:
            raise SelfCheckError(
                f"self-check: {differing} of the answers begin with another token than the likeliest one; "
                "please report this (--no-self-check skips the check)"
            )
        return np.asarray(logits)

    def under(self, study: Study) -> Placed:
        """Another study on the batch, with the generated positions."""
        steps = 1 if self.draft is None else self.draft.tokens.shape[1]
        return _placed(self.model, study, self.prompt, self.placed.batch, steps)


def _placed(model: LoadedModel, study: Study, prompt: PreparedQuestion, batch: Batch, steps: int) -> Placed:
    positions = _positions(study, prompt, batch, generated_room(steps), steps - 1)
    return Placed(model.net, study, batch, positions, place_study(study, positions, batch, steps - 1))


def _positions(study: Study, prompt: PreparedQuestion, batch: Batch, room: int = 0, generated: int = 0) -> Positions:
    prompts, keys = [prompt] * len(batch.length), [key_of(prompt)] * len(batch.length)
    return build_positions(prompts, study.actions, batch.tokens.shape[1] + room, generated, keys)


def check_engines(
    model: LoadedModel,
    prompt: PreparedQuestion,
    rows: Sequence[StudyRow],
    batch_size: int,
    answer_length: int = 1,
    end_tokens: Sequence[int] = (),
) -> None:
    """Check both engines on one prompt. A model whose output there is not finite has nothing to compare.

    Args:
        rows: the study's configurations.
        batch_size: the study's; its programs are of this size.
        answer_length: most tokens of an answer under knockout.
        end_tokens: ids that end an answer, for answers of more than one token.

    Raises:
        SelfCheckError: what differed, and by how much.
    """
    study = build_study([row.knockout for row in rows], model.anatomy)
    batch = build_batch([prompt] * batch_size)
    positions = _positions(study, prompt, batch)
    placed = _placed(model, study, prompt, batch, answer_length)
    base = engine.run_base_of(placed)
    if not np.isfinite(to_host(base.logits)[0]).all():
        return
    impossible = impossible_actions(study, positions, batch)[0]
    possible = [
        (place, row)
        for place, row in enumerate(rows)
        if not any(part[0] in impossible for part in row.knockout.switched)
    ]
    chosen = handful(possible, model.anatomy.main.layers)
    draft, tokens_read = None, 1
    if answer_length > 1:
        draft = greedy_draft(model.net, base, batch, np.asarray(end_tokens, np.int32), answer_length)
        tokens_read = tokens_checked(answer_lengths(to_host(draft.tokens), end_tokens), answer_length)
    checked = _Checked(model, prompt, placed, positions, base, draft, tokens_read)
    _check_blocked(checked, [row for _, row in chosen])
    _check_logits(checked, chosen)


def handful(rows: Sequence[tuple[int, StudyRow]], layers: int) -> list[tuple[int, StudyRow]]:
    """About `HANDFUL` of these rows: for each pathway, its controls and its single heads, a few layers, other ones for
    each."""
    heads = sorted({row.head for _, row in rows} - {TOGETHER})
    pathways: dict[tuple[str, str, str, bool, bool], list[tuple[int, StudyRow]]] = {}
    for place, row in rows:
        single = row.head != TOGETHER
        # Of the heads another one in every layer.
        if row.control <= 1 and not (single and row.head != heads[row.layer % len(heads)]):
            pathways.setdefault((row.kind, str(row.pathway), row.style, row.control > 0, single), []).append(
                (place, row)
            )
    each = max(1, HANDFUL // max(1, len(pathways)))
    chosen = []
    for number, own in enumerate(pathways.values()):
        share = (number + 0.5) / len(pathways)
        wanted = {int((step + share) / each * layers) for step in range(each)}
        chosen += [(place, row) for place, row in own if row.layer in wanted]
    return chosen


def _check_blocked(checked: _Checked, chosen: Sequence[StudyRow]) -> None:
    """What every target gives to all its blocked sources together: weights are not negative, so a sum of zero is zero
    everywhere."""
    model, batch, positions = checked.model, checked.placed.batch, checked.positions
    for probe in probes(model, checked.prompt, chosen, checked.placed.study):
        found = {
            "plain": blocked_weights_plain(model, checked.base, batch, positions, probe),
            "fast": blocked_weights_fast(model, checked.base, batch, positions, probe),
        }
        for name, weights in found.items():
            _refuse_weights(name, weights, probe)


def _refuse_weights(engine: str, weights: Float[np.ndarray, "pair head target"], probe: Probe) -> None:
    for row, own, expected in zip(probe.rows, weights, probe.blocked, strict=True):
        # NaN is no zero either.
        leaking = expected & (np.nan_to_num(own, nan=np.inf) != 0)
        if leaking.any():
            raise SelfCheckError(
                f"self-check: {row.pathway} ({row.style}) in layer {row.layer}: {int(leaking.sum())} blocked rows of "
                f"the {engine} engine's attention have weights up to {own[leaking].max():.3g}, expected exactly 0; "
                "please report this (--no-self-check skips the check)"
            )


def _check_logits(checked: _Checked, chosen: Sequence[tuple[int, StudyRow]]) -> None:
    model, placed = checked.model, checked.placed
    base = to_host(checked.base.logits)[0]
    allowed = TOLERANCE[model.dtype] * float(np.abs(base).max())

    def compare(what: str, own: np.ndarray, expected: np.ndarray, most: float) -> None:
        worst = float(np.abs(own - expected).max())
        if not worst <= most:
            raise SelfCheckError(
                f"self-check: {what} differ by {worst:.3g}, "
                + (f"expected at most {most:.3g}" if most else "expected to be equal bit for bit")
                + "; please report this (--no-self-check skips the check)"
            )

    empty = checked.logits(checked.under(build_study([NOTHING_BLOCKED], model.anatomy)))
    compare("the fast engine's logits under the empty knockout and the base run's", empty[0], base, 0.0)
    off = replace(placed.study, switches=jax.tree.map(np.zeros_like, placed.study.switches))
    recomputed = checked.logits(replace(placed, study=off))
    compare("the logits of rows recomputed with nothing blocked and the base run's", recomputed, base[None], allowed)

    knockouts = [NOTHING_BLOCKED, *(row.knockout for _, row in chosen), NOTHING_BLOCKED]
    switches = build_switches(knockouts, placed.study.actions, model.anatomy)
    one = jax.tree.map(lambda part: part[:1], (placed.batch, checked.positions))
    plain = to_host(_run_plain(model.net, *one, switches, at_once=1, count=len(knockouts)))[:, 0]
    compare("the plain engine's logits under the empty knockout, before and after others,", plain[-1], plain[0], 0.0)
    compare("the plain engine's logits under the empty knockout and the base run's", plain[0], base, allowed)
    swept = checked.logits(placed)
    for (place, row), expected in zip(chosen, plain[1:-1], strict=True):
        what = f"the fast and the plain engine's logits under {row.pathway} ({row.style}) in layer {row.layer}"
        compare(what, swept[place], expected, allowed)
