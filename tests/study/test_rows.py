"""Result rows from measures made up for the purpose."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.knockout.anatomies import prompt_anatomy
from xmflow_jax.data.question import Question
from xmflow_jax.knockout.actions import Action
from xmflow_jax.knockout.measure import Margins, Measured
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study_rows import keep_only_study, pathway_study
from xmflow_jax.run.parts import table_of
from xmflow_jax.study.rows import first_token_answers, observe, question_rows, whole_answers

QUESTION = Question("007", "42", Path("42.jpg"), "Is it red or blue?", "red", "ChooseAttr")
ROWS = pathway_study(
    [(Pathway("Image", "Last"), "centred"), (Pathway("Question", "Image"), "single")], prompt_anatomy(2), 1
)
WORDS = {3: " blue ", 4: "Red", 5: " red"}
# What the four configurations answer.
ANSWERS = ["red wine", "blue", "Red", "red sea"]
# Two prompts of a batch; the question is the second.
TOKENS, PROBABILITIES = [[9, 9, 9, 9], [5, 3, 4, 5]], [[0.9, 0.9, 0.9, 0.9], [0.25, 0.125, 0.75, 0.5]]


def rows(
    base_answer: str = "red wine", base_prob: float = 0.5, impossible: tuple[Action, ...] = (), margins: Any = None
) -> list[Any]:
    measured: Any = Measured(np.array([9, 5]), np.array([0.9, base_prob]), np.array(TOKENS), np.array(PROBABILITIES))
    observed = observe(QUESTION, base_answer, ANSWERS, measured, margins, 1)
    return question_rows(QUESTION, ROWS, impossible, observed)


def test_rows_fit_the_schema_and_say_where_they_belong() -> None:
    table = table_of(rows(), "part").to_pandas()
    assert [(one["pathway"], one["style"], one["layer"], one["window"]) for _, one in table.iterrows()] == [
        ("Image->Last", "centred", 0, 1),
        ("Image->Last", "centred", 1, 1),
        ("Question->Image", "single", 0, 1),
        ("Question->Image", "single", 1, 1),
    ]
    for column, value in {"question_id": "007", "image_id": "42", "task": "ChooseAttr", "gold": "red"}.items():
        assert set(table[column]) == {value}
    assert set(table["base_token"]) == {5}
    assert list(table["knockout_token"]) == [5, 3, 4, 5]
    assert list(table["knockout_prob"]) == PROBABILITIES[1]
    assert list(table["relative_change"]) == [-50.0, -75.0, 50.0, 0.0]


def test_first_tokens_alone_keep_the_whole_answer_where_they_are_unchanged() -> None:
    assert first_token_answers("red wine", 5, TOKENS[1], WORDS.__getitem__) == ["red wine", "blue", "Red", "red wine"]


def test_whole_answers_are_decoded_once_for_equal_tokens() -> None:
    asked: list[tuple[int, ...]] = []

    def decode(tokens: Sequence[int]) -> str:
        asked.append(tuple(tokens))
        return " " + " ".join(WORDS[token].strip() for token in tokens if token != 2)

    tokens = np.array([[5, 3, 2], [5, 2, 2], [4, 5, 3], [5, 2, 2], [5, 3, 2]])
    found = whole_answers("as the base run said", np.array([5, 3, 2]), tokens, decode)
    assert found == ["as the base run said", "red", "Red red blue", "red", "as the base run said"]
    assert asked == [(5, 2, 2), (4, 5, 3)]


def test_rows_hold_the_answer_of_their_own_configuration() -> None:
    assert [one["knockout_answer"] for one in rows()] == ANSWERS
    left = rows(impossible=(ROWS[0].knockout.switched[0][0],))
    assert [one["knockout_answer"] for one in left] == ANSWERS[2:]


def test_scores_are_the_studys_exact_match() -> None:
    # "red wine" is not "red"; "Red", lower-cased, is.
    assert [one["base_score"] for one in rows()] == [0.0] * 4
    assert [one["knockout_score"] for one in rows()] == [0.0, 0.0, 1.0, 0.0]
    assert [one["base_score"] for one in rows("Red")] == [1.0] * 4
    assert [one["knockout_score"] for one in rows("Red")] == [0.0, 0.0, 1.0, 0.0]


def test_impossible_pathways_have_no_rows() -> None:
    edges = ROWS[2].knockout.switched[0][0]
    left = rows(impossible=(edges,))
    assert [one["pathway"] for one in left] == ["Image->Last"] * 2
    assert [one["knockout_prob"] for one in left] == PROBABILITIES[1][:2]
    assert rows(impossible=(edges, ROWS[0].knockout.switched[0][0])) == []


def test_a_base_probability_of_zero_has_no_relative_change() -> None:
    changed = rows(base_prob=0.0)
    assert all(math.isnan(one["relative_change"]) for one in changed)
    table_of(changed, "part")


def test_margins_are_those_of_the_question_and_empty_where_it_has_none() -> None:
    base, knockout = np.array([np.nan, 2.5]), np.array([[np.nan] * 4, [1.0, -2.0, np.inf, 0.0]])
    told = rows(impossible=(ROWS[2].knockout.switched[0][0],), margins=Margins(base, knockout))
    assert [(one["base_margin"], one["knockout_margin"]) for one in told] == [(2.5, 1.0), (2.5, -2.0)]
    assert [one["knockout_margin"] for one in rows(margins=Margins(base, knockout))] == [1.0, -2.0, None, 0.0]
    for none in (None, Margins(base[::-1], knockout[::-1])):
        table = table_of(rows(margins=none), "part")
        assert table["base_margin"].null_count == table["knockout_margin"].null_count == 4


def test_a_kept_pathway_without_positions_has_no_rows() -> None:
    kept = keep_only_study([(Pathway("Image", "Last"), "single")], prompt_anatomy(2), 1)
    measured: Any = Measured(np.array([5]), np.array([0.5]), np.array([[5, 3]]), np.array([[0.25, 0.125]]))
    observed = observe(QUESTION, "red", ["red", "blue"], measured, None, 0)
    here, gone = np.array([True, False]), np.array([False, False])
    some = kept[0].knockout.switched[0][0]
    for roles, impossible, count in (
        ({"Image": here, "Last": here}, (), 2),
        ({"Image": here, "Last": here}, (some,), 2),  # one of the edge sets around it is empty
        ({"Image": gone, "Last": here}, (), 0),
        ({"Image": here, "Last": here}, [part[0] for part in kept[0].knockout.switched], 0),
    ):
        made = question_rows(QUESTION, kept, impossible, observed, roles=roles)
        assert len(made) == count
        assert {(one["kind"], one["mode"], one["pathway"]) for one in made} <= {("keep-only", "mask", "Image->Last")}
