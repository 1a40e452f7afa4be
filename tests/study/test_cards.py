"""Cards of a study: the first questions that have rows get one, and a resumed run makes the same ones."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import pytest

from tests.data.tiny_processing import load_processing
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.templates import resolve_template
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.knockout import FAST
from xmflow_jax.run.folder import RunFolder, open_run, read_cards, read_rows
from xmflow_jax.study.answer import Setting, answer_task
from xmflow_jax.study.options import EVERY, SweepOptions
from xmflow_jax.study.question_card import question_card
from xmflow_jax.study.shipped import write_random_tiny
from xmflow_jax.study.task_studies import TaskStudy, plan_studies

CARDS = 3


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly() -> Iterator[None]:
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskStudy, Setting]:
    """Five questions of one task, of one length so that programs are few, and one pathway, two at a time."""
    folder = tmp_path_factory.mktemp("given")
    model = write_random_tiny(folder / "model", layers=2)
    files, images = write_demo_questions(folder / "data", per_task=20, seed=0)
    every = read_questions([files[2]], images)
    length = Counter(len(question.text) for question in every).most_common(1)[0][0]
    questions = [question for question in every if len(question.text) == length][:5]
    identity = read_checkpoint(model).identify("float32")
    options = SweepOptions(model=str(model), data=(str(files[2]),), images=images, pathways="Image->Last", select=EVERY)
    (study,) = plan_studies(questions, options, identity.anatomy, lambda line: None)
    processing = load_processing(model)
    setting = Setting(
        model=read_checkpoint(model).load(identity.dtype),
        processing=processing,
        template=resolve_template("plain"),
        engine=FAST,
        select=EVERY,
        batch_size=2,
        answer_length=2,
        whole_answers=False,
        card=partial(question_card, processing=processing),
        cards=CARDS,
    )
    return study, setting


def run(folder: Path, given: tuple[TaskStudy, Setting], advance: Callable[[int], None] = lambda count: None) -> Path:
    opened: RunFolder
    with open_run(folder, {"seed": 0}) as opened:
        answer_task(*given, opened, advance)
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
