"""The fast engine: a study on a batch of prompts, computing only what can change. Exact.

Stages, each one compiled program (the last: one for each group of configurations): image encoder, base pass, suffix
passes. They are separate so that a command can time them and so that a group's program serves every batch of its shape.
For whole answers the base answers are decoded in between and stand behind the prompts in the suffix passes; answers
that depart from them are decoded on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.arrays import Positions
from xmflow_jax.knockout.fast.base_run import BASE_PARTS, BaseRun, base_pass
from xmflow_jax.knockout.fast.continuing import continue_answers
from xmflow_jax.knockout.fast.decoding import Draft
from xmflow_jax.knockout.fast.departed import TILES_PARTS, Tiles, continue_departed, first_blocked_layers
from xmflow_jax.knockout.fast.departed_work import Shape
from xmflow_jax.knockout.fast.drafts import (
    Checked,
    DraftedGroup,
    answer_lengths,
    check_drafts,
    drafted_groups,
    generated_room,
    tokens_checked,
)
from xmflow_jax.knockout.fast.passes import drafted_pass, extend_base, suffix_pass
from xmflow_jax.knockout.fast.placement import Placement, place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.plain import AnswerLength, answers_plain, encode_images
from xmflow_jax.knockout.study import Study
from xmflow_jax.machine.partitioning import DATA, mesh_size
from xmflow_jax.machine.passes import FIRST, SECOND, SHARED, over_questions, to_host
from xmflow_jax.nn.network import Network

Tree = Any

_GIVEN = Given._make((BASE_PARTS, FIRST, SHARED, FIRST))
_PASS = {"net": SHARED, "given": _GIVEN, "starts": FIRST}
_LANES = {**_PASS, "schedule": SHARED}

encode = over_questions(encode_images, {"net": SHARED, "pixels": FIRST}, FIRST)
run_base = over_questions(
    base_pass, {"net": SHARED, "batch": FIRST, "features": FIRST, "first": FIRST}, BASE_PARTS, ["rows"]
)
run_suffixes = over_questions(suffix_pass, _LANES, FIRST, ["shape"])
run_drafted = over_questions(drafted_pass, {**_LANES, "draft": FIRST}, (FIRST, FIRST), ["shape"])
run_continued = over_questions(
    continue_answers, {**_PASS, "end_tokens": SHARED, "tiles": TILES_PARTS, "first_layer": SHARED}, SECOND, ["shape"]
)
run_extend = over_questions(extend_base, {"base": BASE_PARTS, "hidden": SECOND, "length": FIRST}, BASE_PARTS, ["rows"])
run_answers_plain = over_questions(
    answers_plain,
    {"net": SHARED, "batch": FIRST, "positions": FIRST, "knockouts": SHARED, "end_tokens": SHARED},
    (SECOND, SECOND),
    ["length", "at_once", "count"],
)

# Configurations that the plain engine evaluates side by side.
PLAIN_AT_ONCE = 8


class Swept(NamedTuple):
    """A study's answer on one batch.

    Attributes:
        base: logits at the answer position with nothing blocked.
        knockout: the same under every configuration of the study, in its order.
    """

    base: Float[Array, "batch vocabulary"]
    knockout: Float[Array, "batch config vocabulary"]


@dataclass(frozen=True, eq=False)
class Placed:
    """A study on one batch of prompts.

    Attributes:
        net: the model.
        study: its configurations.
        batch, positions: host arrays of the prompts; positions with the generated ones where there are drafts.
        placement: of the study on the batch, likewise.
    """

    net: Network
    study: Study
    batch: Batch
    positions: Positions
    placement: Placement


def run_base_of(placed: Placed) -> BaseRun:
    """Image encoder and base pass of a batch."""
    features = encode(placed.net, placed.batch.pixels)
    first, rows = placed.placement.first, placed.placement.rows
    run: BaseRun = run_base(placed.net, placed.batch, features, first, rows=rows)
    return run


def knock_out(placed: Placed, base: BaseRun) -> Float[Array, "batch config vocabulary"]:
    """Logits under every configuration, from the base run of the same batch."""
    given = Given(base, placed.batch, placed.study.switches, placed.positions)
    parts = [
        run_suffixes(placed.net, given, group.schedule, starts, shape=group.shape)
        for group, starts in zip(placed.placement.groups, placed.placement.starts, strict=True)
    ]
    return assemble(placed, base.logits, parts)


class Drafted(NamedTuple):
    """A study on a batch whose base answers stand behind the prompts.

    Attributes:
        logits: at the first answer position.
        following: argmax there and behind each token of the draft that was read.
        base: the base run with the draft's states.
        groups: where and in which shape the study's groups ran.
    """

    logits: Float[Array, "batch config vocabulary"]
    following: Int[Array, "batch config checked"]
    base: BaseRun
    groups: tuple[DraftedGroup, ...]


def knock_out_drafted(placed: Placed, base: BaseRun, draft: Draft, checked: int) -> Drafted:
    """Logits under every configuration, and the next token at every position of the drafts.

    Args:
        placed: with the generated positions (`drafts.generated_room`).
        draft: the base answers.
        checked: how many of their tokens are checked.
    """
    tokens, batch = to_host(draft.tokens), placed.batch
    groups, window = drafted_groups(placed.placement, batch, checked, tokens.shape[1])
    # Without groups nothing is recomputed, and the base run's window may be any.
    extended = run_extend(base, draft.hidden[:, :, : checked - 1], batch.length, rows=window) if groups else base
    given = Given(extended, batch, placed.study.switches, placed.positions)
    parts = [
        run_drafted(placed.net, given, tokens[:, :checked], one.group.schedule, one.starts, shape=one.group.shape)
        for one in groups
    ]
    logits = assemble(placed, base.logits, [part[0] for part in parts])
    following = assemble(placed, tokens[:, :checked], [part[1] for part in parts])
    return Drafted(logits, following, extended, groups)


class Answers(NamedTuple):
    """A batch's whole answers under knockout.

    Attributes:
        logits: at the first answer position.
        tokens: at most `step` of each answer, end tokens included; places after the end hold an end token.
        departed: which answers had to be decoded on.
    """

    logits: Float[Array, "batch config vocabulary"]
    tokens: Int[np.ndarray, "batch config step"]
    departed: Bool[np.ndarray, "batch config"]


def knock_out_answers(
    placed: Placed, base: BaseRun, draft: Draft, end_tokens: Sequence[int], wanted: Bool[np.ndarray, " batch"]
) -> Answers:
    """Logits and whole answers under every configuration: the drafts, and decoded on those that depart from them.

    Args:
        placed, draft: see `knock_out_drafted`.
        end_tokens: ids that end an answer; the first of them fills the rest.
        wanted: prompts whose answers matter; those of the others are the draft.
    """
    tokens = to_host(draft.tokens)
    checked = tokens_checked(answer_lengths(tokens, end_tokens)[wanted], tokens.shape[1])
    found = knock_out_drafted(placed, base, draft, checked)
    drafts = check_drafts(tokens, to_host(found.following), end_tokens)
    drafts = Checked(
        np.where(wanted[:, None, None], drafts.tokens, tokens[:, None]), drafts.known, drafts.departed & wanted[:, None]
    )
    return Answers(found.logits, decode_on(placed, found, drafts, end_tokens), drafts.departed)


def decode_on(
    placed: Placed, found: Drafted, drafts: Checked, end_tokens: Sequence[int]
) -> Int[np.ndarray, "batch config step"]:
    """Whole answers, those that departed from their draft decoded on.

    Args:
        drafts: where they departed.
    """
    answers = plain_answers(placed, found, drafts, end_tokens)
    groups = [one for one in found.groups if one.in_main_alone]
    if not groups:  # nothing is blocked there, and nothing departs
        return answers
    departed = np.zeros((len(groups), *drafts.departed.shape), bool)
    for own, one in zip(departed, groups, strict=True):
        own[:, one.group.trie.configurations] = drafts.departed[:, one.group.trie.configurations]
    given = Given(found.base, placed.batch, placed.study.switches, placed.positions)
    shape = Shape(
        tuple(one.again for one in groups),
        max(max(one.longest, one.again) for one in groups),
        max(one.group.main.prefix for one in groups),
    )
    starts, ends = tuple(one.start for one in groups), np.asarray(end_tokens, np.int32)

    def run(tiles: Tiles, first_layer: Int[np.ndarray, "group slot"]) -> Any:
        return run_continued(placed.net, given, starts, ends, tiles, first_layer, shape=shape)

    first_layer, last_layer = first_blocked_layers(placed.study), placed.study.anatomy.main.layers - 1
    return continue_departed(run, departed, answers, drafts.known, first_layer, last_layer, mesh_size(DATA))


def plain_answers(
    placed: Placed, found: Drafted, drafts: Checked, end_tokens: Sequence[int]
) -> Int[np.ndarray, "batch config step"]:
    """The answers as far as they are known; those that departed because a stack before the main one changed are the
    plain engine's, whose every token is a full pass.

    Args:
        drafts: where they departed.
    """
    chosen = [row for one in found.groups if not one.in_main_alone for row in one.group.trie.configurations]
    chosen = [row for row in chosen if drafts.departed[:, row].any()]
    if not chosen:
        return drafts.tokens
    steps = drafts.tokens.shape[2]
    some = {bank: np.asarray(switch)[np.array(chosen)] for bank, switch in placed.study.switches.items()}
    _, tokens = run_answers_plain(
        placed.net, placed.batch, placed.positions, some, np.asarray(end_tokens, np.int32),
        length=AnswerLength(steps, generated_room(steps)), at_once=PLAIN_AT_ONCE, count=len(chosen),
    )  # fmt: skip
    whole, decoded = drafts.tokens.copy(), to_host(tokens).swapaxes(0, 1)
    whole[:, chosen] = np.where(drafts.departed[:, chosen, None], decoded, whole[:, chosen])
    return whole


def assemble(
    placed: Placed,
    base: Shaped[Any, "batch *rest"],  # noqa: F821 (a shape, which ruff takes for a name)
    parts: Sequence[Shaped[Array, "batch _ *rest"]],
) -> Shaped[Array, "batch config *rest"]:
    """The lanes' results in the study's order; configurations in no group change nothing and are the base run's.

    Args:
        parts: of every group, those of its lanes.
    """
    order = np.zeros(len(placed.study.knockouts), int)
    before = 1
    for group, part in zip(placed.placement.groups, parts, strict=True):
        order[list(group.trie.configurations)] = before + group.trie.ends[:, -1]
        before += part.shape[1]
    return jnp.concatenate([base[:, None], *parts], axis=1)[:, order]


def sweep_fast(net: Network, batch: Batch, positions: Positions, study: Study) -> Swept:
    """Logits at the answer position under every configuration of a study.

    Args:
        batch, positions: host arrays of the same prompts.
    """
    placed = Placed(net, study, batch, positions, place_study(study, positions, batch))
    base = run_base_of(placed)
    return Swept(base.logits, knock_out(placed, base))
