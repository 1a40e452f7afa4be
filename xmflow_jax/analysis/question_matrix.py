"""Long rows as matrices, a question per row and a configuration per column: what the statistics compute with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from xmflow_jax.analysis.clusters import IMAGE, image_codes
from xmflow_jax.analysis.curve import CURVE
from xmflow_jax.run.row_words import TOGETHER

ALL_TASKS: Final = "All tasks"
CONFIGURATION: Final = (*CURVE, "layer")


@dataclass(frozen=True)
class QuestionMatrix:
    """One task's rows.

    Attributes:
        questions: ids, sorted: the matrices' rows.
        images: a number for each question's image, counted from 0 in the order of the questions (`image_codes`).
        columns: `CONFIGURATION`, sorted: the matrices' columns.
        values: a matrix per measure; NaN where a question has no such row, or no such value.
    """

    questions: pd.Index
    images: Int[np.ndarray, " questions"]
    columns: pd.DataFrame
    values: dict[str, Float[np.ndarray, "questions columns"]]


def question_matrix(rows: pd.DataFrame, measures: Sequence[str]) -> QuestionMatrix:
    """The matrices of some measures. Rows of one question and configuration may not repeat.

    Args:
        rows: one task's rows, in any order. Without a column `image_id` every question has an image of its own, as
            have those whose image has no name.
        measures: columns of numbers.
    """
    place, questions = pd.factorize(rows["question_id"], sort=True)
    groups = rows.groupby(list(CONFIGURATION), sort=True, observed=True)
    columns = groups.size().reset_index()[list(CONFIGURATION)]
    column = groups.ngroup().to_numpy()
    values = {}
    for measure in measures:
        matrix = np.full((len(questions), len(columns)), np.nan)
        matrix[place, column] = rows[measure].to_numpy(np.float64)
        values[measure] = matrix
    return QuestionMatrix(pd.Index(questions), _images(rows, place), columns, values)


def _images(rows: pd.DataFrame, place: Int[np.ndarray, " row"]) -> Int[np.ndarray, " questions"]:
    first = np.unique(place, return_index=True)[1]  # row of each question
    return image_codes(rows[IMAGE].iloc[first]) if IMAGE in rows else np.arange(len(first))


def columns_by_questions(
    values: Float[np.ndarray, "questions columns"],
) -> Iterator[tuple[Bool[np.ndarray, " questions"], Int[np.ndarray, " some"]]]:
    """(which questions have a value, the columns of which that is so), once for every such set of questions.

    A pathway's layers share their questions, so there are few sets. Statistics of each column alone are computed set
    by set: a column's result then does not depend on what questions other pathways have.
    """
    known = ~np.isnan(values)
    patterns, which = np.unique(np.packbits(known, axis=0), axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        columns = np.flatnonzero(which.ravel() == pattern)
        yield known[:, columns[0]], columns


def pathway_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Without matched controls and single heads: the pathways themselves, with all the heads that the study blocks."""
    for column, own in (("control", 0), ("head", TOGETHER)):
        if column in rows:
            rows = rows[rows[column] == own]
    return rows


def pool_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows as those of one task, `All tasks`: every question counts once, whatever its task.

    Images keep their names: questions of several tasks about one image stay together.
    """
    return rows.assign(question_id=rows["task"] + "\x1f" + rows["question_id"], task=ALL_TASKS)
