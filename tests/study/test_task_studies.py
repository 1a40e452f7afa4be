"""What a study asks of which questions, before any model is there."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run.result_rows import row
from xmflow_jax.data.question import Box, Question
from xmflow_jax.errors import OptionError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.study.options import sweep_options
from xmflow_jax.study.task_studies import TaskStudy, choose_samples, missing_pathways, plan_studies

MODEL = LlavaConfig(
    ClipVisionConfig(28, 14, width=8, mlp_width=8, layers=1, heads=1),
    LlamaConfig(10, width=8, mlp_width=8, layers=12, heads=4, kv_heads=4, head_width=2),
    image_token=9,
)
STUDY_SIX = [
    "Question->Last",
    "Image->Last",
    "Last->Last",
    "Image->Question",
    "Image Central Object->Question",
    "Image Without Central Object->Question",
]


def question(number: int, task: str = "One", **more: Any) -> Question:
    return Question(f"{number:04d}", "1", Path("1.jpg"), "Is it red or blue?", "red", task, **more)


def plan(questions: list[Question], **options: Any) -> tuple[list[TaskStudy], list[str]]:
    said: list[str] = []
    return plan_studies(questions, sweep_options(**options), LLAVA.anatomy(MODEL), said.append), said


def asked(study: TaskStudy) -> list[tuple[str, str]]:
    return list(dict.fromkeys((str(one.pathway), one.style) for one in study.rows))


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=30), st.integers(1, 31), st.integers(0, 3))
def test_samples_are_as_even_as_the_tasks_allow(tasks: list[str], samples: int, seed: int) -> None:
    questions = [question(number, task) for number, task in enumerate(tasks)]
    chosen = choose_samples(questions, samples, seed)
    assert len(chosen) == min(samples, len(questions))
    numbers = [int(one.question_id) for one in chosen]
    assert numbers == sorted(set(numbers))  # the order they came in, nothing twice
    assert choose_samples(questions, samples, seed) == chosen
    taken = {task: sum(one.task == task for one in chosen) for task in set(tasks)}
    for task, count in taken.items():
        # A task that is not used up has at most one question less than any other.
        assert count == tasks.count(task) or count >= max(taken.values()) - 1


def test_the_seed_decides_which_samples() -> None:
    questions = [question(number) for number in range(50)]
    chosen = {tuple(one.question_id for one in choose_samples(questions, 5, seed)) for seed in range(5)}
    assert len(chosen) == 5
    assert choose_samples(questions, None, 0) == questions


def test_more_samples_with_one_seed_keep_the_fewer() -> None:
    questions = [question(number, "AB"[number % 2]) for number in range(20)]
    assert set(choose_samples(questions, 6, 3)) < set(choose_samples(questions, 9, 3))


def test_by_default_the_studys_six_pathways_and_the_pruning_one() -> None:
    studies, said = plan([question(1, boxes=(Box(0, 0, 1, 1),))])
    assert asked(studies[0]) == [*((name, "centred") for name in STUDY_SIX), ("Image->All", "to-end")]
    assert len(studies[0].rows) == 7 * 12
    assert {one.window for one in studies[0].rows if one.style == "centred"} == {5}
    assert said == []
    # Whatever the style, the pruning pathway stays what it is.
    assert ("Image->All", "to-end") in asked(plan([question(1)], style="single")[0][0])


def test_a_task_leaves_out_what_its_questions_do_not_all_tell() -> None:
    boxes = (Box(0, 0, 1, 1),)
    questions = [question(1, "Told", boxes=boxes), question(2, "Half", boxes=boxes), question(3, "Half")]
    (told, half), said = plan(questions)
    assert [one.question_id for one in half.questions] == ["0002", "0003"]
    assert len(asked(told)) == 7
    assert [name for name, _ in asked(half)] == [*STUDY_SIX[:4], "Image->All"]
    assert said == [f"{name} is left out of Half, whose questions do not tell its roles" for name in STUDY_SIX[4:]]


def test_a_default_pathway_that_no_task_tells_is_no_error_but_an_asked_one_is() -> None:
    studies, said = plan([question(1)])
    assert len(asked(studies[0])) == 5
    assert len(said) == 2
    with pytest.raises(OptionError, match="do not tell Image Central Object->Last; they tell the roles Image, ") as no:
        plan([question(1)], pathways="Last->Last, Image Central Object->Last")
    assert "True Option" not in str(no.value)


def test_a_task_without_any_pathway_has_no_study() -> None:
    questions = [question(1, "With", true_option="red"), question(2, "Without")]
    studies, said = plan(questions, pathways="True Option->Last")
    assert [study.task for study in studies] == ["With"]
    assert said == ["True Option->Last is left out of Without, whose questions do not tell its roles"]


def test_rows_know_their_layers_heads_and_mode() -> None:
    studies, _ = plan([question(1)], pathways="Image->Last", window=4, mode="zero", heads=(1, 3))
    by_layer = {one.layer: one for one in studies[0].rows}
    assert sorted(by_layer) == list(range(12))
    for layer, expected in {0: (0, 1), 1: (0, 1, 2), 6: (4, 5, 6, 7), 11: (9, 10, 11)}.items():
        ((edges, blocked, heads),) = by_layer[layer].knockout.switched
        assert (edges.mode, blocked, heads) == ("zero", expected, (1, 3))
        assert by_layer[layer].window == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": (0, 4)}, "head 4 is not one of the model's 0 to 3"),
        ({"window": 13}, "window 13 is not between 1 and the model's 12 layers"),
    ],
)
def test_what_the_model_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{message}$"):
        plan([question(1)], **options)


def test_pathways_without_rows_are_told() -> None:
    questions = [question(1), question(2)]
    studies, _ = plan(questions, pathways="Image->Last, Image->Question, Question->Image")
    rows = [row(one.question_id, layer, "One", pathway="Image->Last") for one in questions for layer in (0, 1)]
    rows.append(row("0001", 0, "One", pathway="Image->Question"))
    lines = missing_pathways(pd.DataFrame(rows), studies)
    assert len(lines) == 2
    assert lines[0].startswith("One: Image->Question is left out of 1 of 2 questions")
    assert lines[1].startswith("One: Question->Image is impossible in this prompt")
    # Of a task without any answered question there is nothing to tell.
    assert missing_pathways(pd.DataFrame(rows).iloc[:0], studies) == []


def test_kept_pathways_and_zeroed_outputs_stand_behind_the_pathways() -> None:
    (study,), said = plan(
        [question(0)],
        pathways="Image->Last",
        keep_only="Image->Last, Question->Last@single",
        zero_output="mlp:Question@to-end",
        controls=1,
    )
    curves = dict.fromkeys((row.kind, row.mode, str(row.pathway), row.style, row.control) for row in study.rows)
    assert list(curves) == [
        ("edges", "mask", "Image->Last", "centred", 0),
        ("edges", "mask", "Image->Last", "centred", 1),
        ("keep-only", "mask", "Image->Last", "centred", 0),
        ("keep-only", "mask", "Question->Last", "single", 0),
        ("output", "zero", "mlp:Question", "to-end", 0),
    ]
    assert len(study.rows) == 12 * len(curves)
    assert said == []


def test_other_knockouts_are_left_out_of_tasks_that_do_not_tell_their_roles() -> None:
    told = question(1, "Two", boxes=(Box(0, 0, 1, 1),), image_size=(2, 2))
    studies, said = plan(
        [question(0), told], pathways="Image->Last", keep_only="Image Central Object->Last", zero_output="self:Last"
    )
    kinds = {study.task: {row.kind for row in study.rows} for study in studies}
    assert kinds == {"One": {"edges", "output"}, "Two": {"edges", "keep-only", "output"}}
    assert said == ["Image Central Object->Last is left out of One, whose questions do not tell its roles"]
    with pytest.raises(OptionError, match="--keep-only: the data do not tell Image Central Object->Last"):
        plan([question(0)], keep_only="Image Central Object->Last")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("cross:Last", "the model has no cross-attention; it reads the image in its prompt"),
        ("self:Central Object", "the data do not tell self:Central Object"),
    ],
)
def test_outputs_that_model_or_data_do_not_have_are_refused(output: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        plan([question(0)], zero_output=output)
