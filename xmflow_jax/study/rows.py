"""Result rows from a batch's measures: where tokens become answers and answers become scores.

Only the first answer token is read under knockout so far. `knockout_answer` is the base run's whole answer where that
token is unchanged, else the token itself; `knockout_score` is the score of that.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xmflow_jax.data.question import Question
from xmflow_jax.knockout.configuration import Action, StudyRow
from xmflow_jax.knockout.measure import Measured
from xmflow_jax.metrics.effects import relative_change
from xmflow_jax.metrics.exact import exact_match


def question_rows(
    question: Question,
    base_answer: str,
    study_rows: Sequence[StudyRow],
    impossible: Iterable[Action],
    measured: Measured,
    place: int,
    decode: Callable[[int], str],
) -> list[Mapping[str, Any]]:
    """All result rows of one question (`ROW_SCHEMA`), without those of pathways that its prompt does not have.

    Nothing is blocked where no target comes after a source, or a role matches no position: such a row would say that
    the knockout has no effect, so there is none.

    Args:
        impossible: actions that block nothing in this prompt.
        measured: the batch's, `place` being the question's row in it.
        decode: one token id to text.
    """
    impossible = set(impossible)
    base_token, base_prob = int(measured.base_token[place]), float(measured.base_prob[place])
    base_score = exact_match(base_answer, question.answer)
    changes = relative_change(base_prob, np.asarray(measured.knockout_prob[place], np.float64))
    rows: list[Mapping[str, Any]] = []
    for column, row in enumerate(study_rows):
        if any(part[0] in impossible for part in row.knockout.switched):
            continue
        token = int(measured.knockout_token[place, column])
        answer = base_answer if token == base_token else decode(token).strip()
        rows.append(
            {
                "question_id": question.question_id,
                "image_id": question.image_id,
                "task": question.task,
                "pathway": str(row.pathway),
                "style": row.style,
                "layer": row.layer,
                "window": row.window,
                "gold": question.answer,
                "base_answer": base_answer,
                "knockout_answer": answer,
                "base_token": base_token,
                "knockout_token": token,
                "base_prob": base_prob,
                "knockout_prob": float(measured.knockout_prob[place, column]),
                "relative_change": float(changes[column]),
                "base_score": base_score,
                "knockout_score": exact_match(answer, question.answer),
            }
        )
    return rows
