"""Cards of a study: the first questions that have rows get one, and a resumed run makes the same ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.study.small_study import CARDS, small_study
from xmflow_jax.run.folder import open_run, read_cards, read_rows
from xmflow_jax.study.answer import answer_task
from xmflow_jax.study.setting import News, Setting
from xmflow_jax.study.task_studies import TaskStudy

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskStudy, Setting]:
    return small_study(tmp_path_factory.mktemp("given"))


def run(folder: Path, given: tuple[TaskStudy, Setting], advance: Callable[[int], None] = lambda count: None) -> Path:
    study, setting = given
    with open_run(folder, {"seed": 0}) as opened:
        answer_task(study, replace(setting, news=News(advance)), opened)
    return folder


def test_a_resumed_run_has_the_cards_of_an_undisturbed_one(given: tuple[TaskStudy, Setting], tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", given)
    assert read_rows(whole)["question_id"].nunique() == 5
    cards = read_cards(whole)
    assert len(cards) == CARDS
    asked = {question.question_id: question.text for question in given[0].questions}
    assert [asked[name] for name in cards["question_id"]] == cards["text"].tolist()

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    for _ in range(2):  # once before the cards are complete, once after
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", given, stop)
    assert 0 < len(read_cards(tmp_path / "killed")) <= CARDS
    resumed = read_cards(run(tmp_path / "killed", given))
    assert resumed.map(repr).equals(cards.map(repr))  # arrays have no equality of their own
