import numpy as np
import pandas as pd

from xmflow_jax.analysis.question_matrix import ALL_TASKS, columns_by_questions, pool_tasks, question_matrix

ROWS = pd.DataFrame(
    [
        ("b", "T", "P", "centred", 10, 1.0),
        ("a", "T", "P", "centred", 10, 2.0),
        ("a", "T", "P", "centred", 2, 3.0),
        ("c", "T", "N", "to-end", 0, 4.0),
    ],
    columns=["question_id", "task", "pathway", "style", "layer", "value"],
).assign(kind="edges", mode="mask")


def test_every_value_is_in_its_place() -> None:
    matrix = question_matrix(ROWS, ["value"])
    assert list(matrix.questions) == ["a", "b", "c"]
    expected = [["N", "to-end", 0], ["P", "centred", 2], ["P", "centred", 10]]
    assert matrix.columns.to_numpy().tolist() == [["edges", "mask", *one] for one in expected]
    nan = np.nan
    np.testing.assert_array_equal(matrix.values["value"], [[nan, 3, 2], [nan, nan, 1], [4, nan, nan]])


def test_columns_of_the_same_questions_come_together() -> None:
    nan = np.nan
    values = np.array([[1, nan, 2, nan], [3, 4, 5, nan], [nan, 6, nan, nan]])
    found = {tuple(columns): questions.tolist() for questions, columns in columns_by_questions(values)}
    assert found == {(0, 2): [True, True, False], (1,): [False, True, True], (3,): [False, False, False]}


def test_pooled_questions_of_one_name_stay_apart() -> None:
    pooled = pool_tasks(pd.concat([ROWS, ROWS.assign(task="U", value=-1.0)]))
    assert set(pooled["task"]) == {ALL_TASKS}
    assert question_matrix(pooled, ["value"]).values["value"].shape == (6, 3)
