"""The fast engine: a study on a batch of prompts, computing only what can change. Exact.

Stages, each one compiled program (the last: one for each group of configurations): image encoder, base pass, suffix
passes. They are separate so that a command can time them and so that a group's program serves every batch of its shape.
For whole answers the base answers are decoded in between and stand behind the prompts in the suffix passes; answers
that depart from them are decoded on.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.arrays import Positions
from xmflow_jax.knockout.fast.continuing import continue_answers
from xmflow_jax.knockout.fast.decoding import Draft
from xmflow_jax.knockout.fast.departed import TILES_PARTS, Tiles, continue_departed, first_blocked_layers
from xmflow_jax.knockout.fast.drafts import (
    Checked,
    DraftedGroup,
    answer_lengths,
    check_drafts,
    drafted_groups,
    tokens_checked,
)
from xmflow_jax.knockout.fast.passes import BASE_PARTS, BaseRun, base_pass, drafted_pass, extend_base, suffix_pass
from xmflow_jax.knockout.fast.placement import Placement, Study, place_study
from xmflow_jax.knockout.plain import encode_images
from xmflow_jax.machine.partitioning import DATA, mesh_size
from xmflow_jax.machine.passes import FIRST, SECOND, SHARED, over_questions, to_host

Tree = Any

_PASS = {"params": SHARED, "base": BASE_PARTS, "switches": SHARED, "positions": FIRST, "start": FIRST, "length": FIRST}

encode = over_questions(encode_images, {"params": SHARED, "pixels": FIRST}, FIRST, ["graphdef"])
run_base = over_questions(
    base_pass,
    {"params": SHARED, "tokens": FIRST, "length": FIRST, "features": FIRST, "first": FIRST},
    BASE_PARTS,
    ["graphdef", "rows"],
)
run_suffixes = over_questions(suffix_pass, _PASS, FIRST, ["graphdef", "trie", "rows", "prefix"])
run_drafted = over_questions(
    drafted_pass, {**_PASS, "draft": FIRST}, (FIRST, FIRST), ["graphdef", "trie", "rows", "prefix"]
)
run_continued = over_questions(
    continue_answers,
    {**_PASS, "end_tokens": SHARED, "tiles": TILES_PARTS, "first_layer": SHARED},
    SECOND,
    ["graphdef", "rows", "longest", "prefix"],
)
run_extend = over_questions(extend_base, {"base": BASE_PARTS, "hidden": SECOND, "length": FIRST}, BASE_PARTS, ["rows"])


class Swept(NamedTuple):
    """A study's answer on one batch.

    Attributes:
        base: logits at the answer position with nothing blocked.
        knockout: the same under every configuration of the study, in its order.
    """

    base: Float[Array, "batch vocabulary"]
    knockout: Float[Array, "batch config vocabulary"]


def knock_out(
    graphdef: Any, params: Tree, base: BaseRun, study: Study, placement: Placement, batch: Batch, positions: Positions
) -> Float[Array, "batch config vocabulary"]:
    """Logits under every configuration, from a base run of the same batch."""
    parts = [
        run_suffixes(
            graphdef,
            params,
            base,
            group.trie,
            study.switches,
            positions,
            start,
            batch.length,
            rows=group.rows,
            prefix=group.prefix,
        )
        for group, start in zip(placement.groups, placement.starts, strict=True)
    ]
    return assemble(study, placement, base.logits, parts)


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


def knock_out_drafted(
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    draft: Draft,
    checked: int,
    study: Study,
    placement: Placement,
    batch: Batch,
    positions: Positions,
) -> Drafted:
    """As `knock_out`, with the next token at every position of the drafts too.

    Args:
        draft: the base answers.
        checked: how many of their tokens are checked.
        placement, positions: with the generated positions (`draft.generated_room`).
    """
    length, tokens = np.asarray(batch.length), to_host(draft.tokens)
    groups, window = drafted_groups(placement, length, batch.tokens.shape[1], checked, tokens.shape[1])
    # Without groups nothing is recomputed, and the base run's window may be any.
    extended = run_extend(base, draft.hidden[:, :, : checked - 1], length, rows=window) if groups else base
    parts = [
        run_drafted(
            graphdef,
            params,
            extended,
            tokens[:, :checked],
            one.group.trie,
            study.switches,
            positions,
            one.start,
            length,
            rows=one.group.rows,
            prefix=one.group.prefix,
        )
        for one in groups
    ]
    logits = assemble(study, placement, base.logits, [part[0] for part in parts])
    following = assemble(study, placement, tokens[:, :checked], [part[1] for part in parts])
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
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    draft: Draft,
    study: Study,
    placement: Placement,
    batch: Batch,
    positions: Positions,
    end_tokens: Sequence[int],
    wanted: Bool[np.ndarray, " batch"],
) -> Answers:
    """As `knock_out_drafted`, with the answers that depart from their draft decoded on.

    Args:
        end_tokens: ids that end an answer; the first of them fills the rest.
        wanted: prompts whose answers matter; those of the others are the draft.
    """
    tokens = to_host(draft.tokens)
    checked = tokens_checked(answer_lengths(tokens, end_tokens)[wanted], tokens.shape[1])
    found = knock_out_drafted(graphdef, params, base, draft, checked, study, placement, batch, positions)
    drafts = check_drafts(tokens, to_host(found.following), end_tokens)
    drafts = Checked(
        np.where(wanted[:, None, None], drafts.tokens, tokens[:, None]), drafts.known, drafts.departed & wanted[:, None]
    )
    answers = decode_on(graphdef, params, found, drafts, study, batch, positions, end_tokens)
    return Answers(found.logits, answers, drafts.departed)


def decode_on(
    graphdef: Any,
    params: Tree,
    found: Drafted,
    drafts: Checked,
    study: Study,
    batch: Batch,
    positions: Positions,
    end_tokens: Sequence[int],
) -> Int[np.ndarray, "batch config step"]:
    """Whole answers, those that departed from their draft decoded on.

    Args:
        drafts: where they departed.
    """
    if not found.groups:  # nothing is blocked, and nothing departs
        return drafts.tokens
    departed = np.zeros((len(found.groups), *drafts.departed.shape), bool)
    for own, one in zip(departed, found.groups, strict=True):
        own[:, one.group.trie.configurations] = drafts.departed[:, one.group.trie.configurations]

    def run(tiles: Tiles, first_layer: Int[np.ndarray, "group slot"]) -> Any:
        return run_continued(
            graphdef,
            params,
            found.base,
            study.switches,
            positions,
            tuple(one.start for one in found.groups),
            batch.length,
            np.asarray(end_tokens, np.int32),
            tiles,
            first_layer,
            rows=tuple(one.group.rows for one in found.groups),
            longest=max(one.longest for one in found.groups),
            prefix=max(one.group.prefix for one in found.groups),
        )

    first_layer, last_layer = first_blocked_layers(study.switches), study.layers - 1
    return continue_departed(run, departed, drafts.tokens, drafts.known, first_layer, last_layer, mesh_size(DATA))


def assemble(
    study: Study,
    placement: Placement,
    base: Shaped[Any, "batch *rest"],
    parts: Sequence[Shaped[Array, "batch _ *rest"]],
) -> Shaped[Array, "batch config *rest"]:
    """The groups' results in the study's order; configurations in no group change nothing and are the base run's."""
    chosen = [member for group in placement.groups for member in group.trie.configurations]
    order = np.full(len(study.knockouts), len(chosen))
    order[chosen] = np.arange(len(chosen))
    return jnp.concatenate([*parts, base[:, None]], axis=1)[:, order]


def sweep_fast(graphdef: Any, params: Tree, batch: Batch, positions: Positions, study: Study) -> Swept:
    """Logits at the answer position under every configuration of a study.

    Args:
        batch, positions: host arrays of the same prompts.
    """
    placement = place_study(study, positions, np.asarray(batch.length), batch.tokens.shape[1])
    features = encode(graphdef, params, batch.pixels)
    base = run_base(graphdef, params, batch.tokens, batch.length, features, placement.first, rows=placement.rows)
    return Swept(base.logits, knock_out(graphdef, params, base, study, placement, batch, positions))
