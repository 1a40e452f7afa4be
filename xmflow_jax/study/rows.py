"""Result rows from a batch's measures: where answers become scores.

Tokens and probabilities are those of the first answer position; answers and scores are about whole answers, as the base
run and each knockout decode them greedily. Where a run was asked for first tokens alone, `first_token_answers` stand in
for the knockouts' answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.question import Question
from xmflow_jax.knockout.actions import Action
from xmflow_jax.knockout.measure import Margins, Measured
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.measures.measure import Observed
from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.run.row_words import KEEP_ONLY
from xmflow_jax.scoring.answers import score_answer


def observe(
    question: Question,
    base_answer: str,
    knockout_answers: Sequence[str],
    measured: Measured,
    margins: Margins | None,
    place: int,
) -> Observed:
    """What the engine found about one question of a batch, for the measures to read.

    Args:
        knockout_answers: the whole answer under each configuration.
        measured: the batch's tokens and probabilities.
        margins: the batch's, of the options; None where none were asked for.
        place: the question's row in the batch.
    """
    probabilities = np.asarray(measured.knockout_prob[place], np.float64)
    return Observed(
        score=lambda answer: score_answer(question, answer, question.scorer),
        base_answer=base_answer,
        knockout_answers=knockout_answers,
        base_token=int(measured.base_token[place]),
        knockout_tokens=np.asarray(measured.knockout_token[place]),
        base_prob=float(measured.base_prob[place]),
        knockout_probs=probabilities,
        base_margin=np.nan if margins is None else float(margins.base[place]),
        knockout_margins=(
            np.full(probabilities.shape, np.nan) if margins is None else np.asarray(margins.knockout[place], np.float64)
        ),
    )


def question_rows(
    question: Question,
    study_rows: Sequence[StudyRow],
    impossible: Iterable[Action],
    observed: Observed,
    overlaps: Mapping[Action, float] | None = None,
    roles: Mapping[str, Bool[np.ndarray, " _"]] | None = None,
) -> list[Mapping[str, Any]]:
    """All result rows of one question (`ROW_SCHEMA`), without those of pathways that its prompt does not have.

    Nothing is blocked where no target comes after a source, or a role matches no position: such a row would say that
    the knockout has no effect, so there is none.

    Args:
        impossible: actions that block nothing in this prompt.
        observed: of the question, under each of `study_rows`.
        overlaps: of every matched control with its pathway (`controls.control_overlap`).
        roles: the prompt's positions of each role; without them `keep-only` rows are taken to have their pathway.
    """
    impossible = set(impossible)
    values: dict[str, Sequence[Any]] = {}
    for measure in MEASURES:
        values |= measure.read(observed)
    rows: list[Mapping[str, Any]] = []
    for column, row in enumerate(study_rows):
        if not _exists(row, impossible, roles):
            continue
        rows.append(
            {
                "question_id": question.question_id,
                "image_id": question.image_id,
                "task": question.task,
                "kind": row.kind,
                "mode": row.mode,
                "pathway": str(row.pathway),
                "style": row.style,
                "layer": row.layer,
                "window": row.window,
                "control": row.control,
                "head": row.head,
                "control_overlap": _overlap(row, overlaps or {}),
                "gold": question.answer,
                "base_answer": observed.base_answer,
                "knockout_answer": observed.knockout_answers[column],
                **{name: value[column] for name, value in values.items()},
            }
        )
    return rows


def _exists(row: StudyRow, impossible: set[Action], roles: Mapping[str, Bool[np.ndarray, " _"]] | None) -> bool:
    """Whether the row's knockout is one of this prompt."""
    found = [action not in impossible for action, *_ in row.knockout.switched]
    if row.kind != KEEP_ONLY:
        return all(found)
    # Of all the edges that are blocked around a kept pathway some kinds may be missing; the pathway itself may not.
    assert isinstance(row.pathway, Pathway)
    kept = (row.pathway.source, row.pathway.target)
    return any(found) and (roles is None or all(roles[role].any() for role in kept))


def _overlap(row: StudyRow, overlaps: Mapping[Action, float]) -> float | None:
    return float(np.mean([overlaps[action] for action, *_ in row.knockout.switched])) if row.control else None


def first_token_answers(
    base_answer: str, base_token: int, tokens: Iterable[int], decode: Callable[[int], str]
) -> list[str]:
    """What first tokens alone tell of the answers under knockout: the base run's whole answer where its first token is
    unchanged, else the token itself.

    Args:
        tokens: first token of the answer under each configuration.
        decode: one token id to text.
    """
    return [base_answer if token == base_token else decode(int(token)).strip() for token in tokens]


def whole_answers(
    base_answer: str,
    base_tokens: Int[np.ndarray, " step"],
    tokens: Int[np.ndarray, "config step"],
    decode: Callable[[Sequence[int]], str],
) -> list[str]:
    """The whole answers under knockout as text; equal tokens are decoded once.

    Args:
        decode: an answer's token ids, end tokens included, to text.
    """
    known = {tuple(base_tokens.tolist()): base_answer}
    answers = []
    for own in map(tuple, tokens.tolist()):
        if own not in known:
            known[own] = decode(own).strip()
        answers.append(known[own])
    return answers
