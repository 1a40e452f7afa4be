"""One question through a whole study, without a run folder: what a run lands of it, or why there is nothing."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.study.small_study import small_study
from xmflow_jax.run.folder import NOT_SELECTED, open_run, read_lens, read_rows
from xmflow_jax.run.parts import table_of
from xmflow_jax.study.answer import answer_task
from xmflow_jax.study.one_batch import answer_question
from xmflow_jax.study.options import CORRECT
from xmflow_jax.study.setting import Setting
from xmflow_jax.study.task_studies import TaskStudy

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskStudy, Setting]:
    return small_study(tmp_path_factory.mktemp("given"))


def test_a_question_alone_is_what_the_run_lands_of_it(given: tuple[TaskStudy, Setting], tmp_path: Path) -> None:
    study, setting = given
    with open_run(tmp_path, {"seed": 0}) as run:
        answer_task(study, setting, run)
    landed, lens = read_rows(tmp_path), read_lens(tmp_path)
    question = study.questions[1]
    result = answer_question(question, study.rows, setting.prompted, setting.knockouts)
    assert result.skipped is None
    for kind, found, expected in (("part", result.rows, landed), ("lens", result.lens, lens)):
        own = expected[expected["question_id"] == question.question_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(table_of(found, kind).to_pandas(), own, rtol=1e-4, atol=1e-5)


def test_a_question_that_is_not_selected_says_what_was_answered(given: tuple[TaskStudy, Setting]) -> None:
    study, setting = given
    question = replace(study.questions[0], answer="no model says this")
    result = answer_question(question, study.rows, setting.prompted, replace(setting.knockouts, select=CORRECT))
    assert (result.rows, result.lens) == ((), ())
    assert result.skipped is not None
    assert result.skipped["kind"] == NOT_SELECTED
    assert result.skipped["reason"].endswith("to 'no model says this'")
