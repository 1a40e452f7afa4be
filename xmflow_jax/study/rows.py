"""Result rows from a batch's measures: where answers become scores.

Tokens and probabilities are those of the first answer position; answers and scores are about whole answers, as the base
run and each knockout decode them greedily. Where a run was asked for first tokens alone, `first_token_answers` stand in
for the knockouts' answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from xmflow_jax.data.question import Question
from xmflow_jax.knockout.actions import Action
from xmflow_jax.knockout.measure import Margins, Measured
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.scoring.answers import score_answer
from xmflow_jax.scoring.effects import relative_change


def question_rows(
    question: Question,
    base_answer: str,
    study_rows: Sequence[StudyRow],
    impossible: Iterable[Action],
    measured: Measured,
    place: int,
    knockout_answers: Sequence[str],
    overlaps: Mapping[Action, float] | None = None,
    margins: Margins | None = None,
) -> list[Mapping[str, Any]]:
    """All result rows of one question (`ROW_SCHEMA`), without those of pathways that its prompt does not have.

    Nothing is blocked where no target comes after a source, or a role matches no position: such a row would say that
    the knockout has no effect, so there is none.

    Args:
        impossible: actions that block nothing in this prompt.
        measured: the batch's, `place` being the question's row in it.
        knockout_answers: the whole answer under each of `study_rows`.
        overlaps: of every matched control with its pathway (`controls.control_overlap`).
        margins: the batch's, of the options; rows of a question without options have none.
    """
    impossible = set(impossible)
    base_token, base_prob = int(measured.base_token[place]), float(measured.base_prob[place])
    base_score = score_answer(question, base_answer, question.scorer)
    changes = relative_change(base_prob, np.asarray(measured.knockout_prob[place], np.float64))
    base_margin = None if margins is None else _known(margins.base[place])
    rows: list[Mapping[str, Any]] = []
    for column, row in enumerate(study_rows):
        if any(part[0] in impossible for part in row.knockout.switched):
            continue
        rows.append(
            {
                "question_id": question.question_id,
                "image_id": question.image_id,
                "task": question.task,
                "pathway": str(row.pathway),
                "style": row.style,
                "layer": row.layer,
                "window": row.window,
                "control": row.control,
                "head": row.head,
                "control_overlap": _overlap(row, overlaps or {}),
                "gold": question.answer,
                "base_answer": base_answer,
                "knockout_answer": knockout_answers[column],
                "base_token": base_token,
                "knockout_token": int(measured.knockout_token[place, column]),
                "base_prob": base_prob,
                "knockout_prob": float(measured.knockout_prob[place, column]),
                "relative_change": float(changes[column]),
                "base_score": base_score,
                "knockout_score": score_answer(question, knockout_answers[column], question.scorer),
                "base_margin": base_margin,
                "knockout_margin": None if margins is None else _known(margins.knockout[place, column]),
            }
        )
    return rows


def _overlap(row: StudyRow, overlaps: Mapping[Action, float]) -> float | None:
    return float(np.mean([overlaps[action] for action, *_ in row.knockout.switched])) if row.control else None


def _known(margin: Any) -> float | None:
    return float(margin) if np.isfinite(margin) else None


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
