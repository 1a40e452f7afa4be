"""What is told of questions before any work."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import load_processing, write_tiny_processing
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import resolve_template
from xmflow_jax.errors import DataError
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.scoring.answers import can_match
from xmflow_jax.scoring.scorers import SCORERS
from xmflow_jax.study import foreseen
from xmflow_jax.study.foreseen import (
    Foreseen,
    Reading,
    check_gold,
    check_images,
    check_usable,
    foresee,
    missing_images,
    unmatched_lines,
)


@pytest.fixture(name="reading", scope="module")
def fixture_reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    folder = tmp_path_factory.mktemp("processing")
    vocabulary = write_tiny_processing(folder)
    anatomy = Anatomy((), vocabulary=vocabulary, positions=40)
    return Reading(load_processing(folder), resolve_template("plain"), anatomy, answer_length=4)


@pytest.fixture(name="asked")
def fixture_asked(tmp_path: Path) -> list[Question]:
    """Six sound questions about two images."""
    for name in "ab":
        Image.new("RGB", (28, 28), (255, 0, 0)).save(tmp_path / f"{name}.png")
    return [
        Question(
            str(number), "ab"[number % 2], tmp_path / f"{'ab'[number % 2]}.png", "Is the circle red?", "red", "Own"
        )
        for number in range(6)
    ]


def scorer_of(question: Question) -> str:
    return question.scorer


def look(questions: list[Question], reading: Reading, done: set[tuple[str, str]] | None = None) -> Foreseen:
    return foresee(questions, done or set(), reading, scorer_of)


def test_of_sound_questions_nothing_is_said(asked: list[Question], reading: Reading) -> None:
    found = look(asked, reading)
    assert (found.words(), found.unusable, found.questions) == ([], set(), 6)
    check_images(asked)
    check_usable(asked, reading)
    check_gold(asked, scorer_of)


def test_each_kind_is_counted(asked: list[Question], reading: Reading, tmp_path: Path) -> None:
    asked[0] = replace(asked[0], image_path=tmp_path / "gone.png")
    asked[1] = replace(asked[1], image_path=tmp_path / "gone.png")
    asked[2] = replace(asked[2], image_path=tmp_path / "nowhere" / "c.png", text="<image>?")  # counted once
    asked[3] = replace(asked[3], text="Is the <image> red?")
    asked[4] = replace(asked[4], text="Is it red? " * 20)
    asked[5] = replace(asked[5], answer="Red")
    found = look(asked, reading)
    assert found.unusable == {("Own", str(number)) for number in range(5)}
    images, prompts, gold = found.words()
    assert images == f"2 images missing (3 questions; the first is {tmp_path / 'gone.png'})"
    assert prompts == "2 prompts set aside (the first: the question's text 'Is the <image> red?' holds <image>)"
    assert gold == "1 gold answer that cannot match"
    assert "exceed the model's 40 positions" in found.aside[1][1]


def test_what_is_done_is_not_looked_at(asked: list[Question], reading: Reading) -> None:
    asked[0].image_path.unlink()
    assert look(asked, reading, {("Own", number) for number in "024"}).words() == []
    assert look(asked, reading, {("Own", "0")}).words() == [
        f"1 image missing (2 questions; the first is {asked[0].image_path})"
    ]


def test_of_many_prompts_some_are_looked_at(
    asked: list[Question], reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreseen, "LOOKED_AT", 3)
    found = look([replace(one, text="<image>") for one in asked], reading)
    assert found.words() == [
        "3 prompts of 3 looked at set aside (the first: the question's text '<image>' holds <image>)"
    ]


@pytest.mark.parametrize("name", ["c.png", "C.PNG", "x" * 400, "a.png/b", "a\0b"])
def test_images_that_are_missing(asked: list[Question], tmp_path: Path, name: str) -> None:
    there, gone = asked[0], replace(asked[1], image_path=tmp_path / name)
    assert missing_images([there, gone]) == [gone]
    check_images([there, gone])
    with pytest.raises(DataError, match="no image of 1 question is there; the first looked for is "):
        check_images([gone])


def test_where_nothing_can_be_used_the_first_reason_is_told(
    asked: list[Question], reading: Reading, tmp_path: Path
) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    broken = [replace(one, image_path=tmp_path / "page.jpg") for one in asked]
    with pytest.raises(
        DataError, match=r"no question of 6 can be used; the first: image .*page\.jpg cannot be read: it is"
    ):
        check_usable(broken, reading)
    check_usable([*broken, asked[0]], reading)
    long = [replace(one, text="Is it red? " * 20) for one in asked]
    with pytest.raises(DataError, match=r"no question of 6 can be used; the first: its prompt of .* exceed"):
        check_usable(long, reading)
    check_usable([], reading)


# A rule, the gold answers, and whether a model's answer can score a point, by the rules' own definitions.
GOLD: list[tuple[str, tuple[str, ...], bool]] = [
    ("exact", ("red",), True),
    ("exact", ("Red",), False),
    ("exact", ("yes ",), False),
    ("exact", ("\tno",), False),
    ("exact", ("T-shirt",), False),
    ("exact", ("two words",), True),
    ("exact", ("caf\u00e9",), True),
    ("exact", (" ",), False),
    ("gqa", ("Red",), True),
    ("gqa", ("yes ",), False),
    ("gqa-llava", ("red",), True),
    ("gqa-llava", ("Red",), False),
    ("gqa-llava", ("no.",), False),
    ("vqa", ("Red",) * 10, True),
    ("vqa", ("yes ",) * 10, True),
    ("vqa", ("The Red.",) * 9 + ("blue",), True),
    ("vqa", ("red",), False),
    ("vqa-lmms-eval", ("Red",) * 10, False),
    ("vqa-lmms-eval", ("Red",) * 9 + ("blue",), True),
    ("vqa-always-normalized", ("Red",) * 10, True),
    ("okvqa-lmms-eval", ("The Red",) * 10, True),
]


@pytest.mark.parametrize(("rule", "golds", "possible"), GOLD)
def test_gold_answers_that_can_be_matched(rule: str, golds: tuple[str, ...], possible: bool) -> None:
    question = Question("1", "a", Path("a.png"), "?", golds[0], "Own", answers=golds, scorer=rule)
    assert can_match(question, rule) is possible
    tried = {variant for gold in golds for variant in (gold, gold.lower(), gold.upper(), gold.title(), f"the {gold}")}
    best = max(SCORERS[rule].score(answer.strip(), golds) for answer in tried)
    assert (best > 0) is possible


def test_without_a_gold_answer_nothing_is_said() -> None:
    assert can_match(Question("1", "a", Path("a.png"), "?", "", "Own"), "exact")


def test_each_file_is_named_once_with_its_count(asked: list[Question]) -> None:
    named = [
        replace(one, answer=answer) for one, answer in zip(asked, ("Red", "red", "yes ", "No", "no", "no"), strict=True)
    ]
    files = {"0": "a.csv", "1": "a.csv", "2": "a.csv", "3": "b.csv", "4": "b.csv", "5": "c.csv"}
    unmatched = [one for one in named if not can_match(one, "exact")]
    first, second = unmatched_lines(unmatched, named, lambda one: files[one.question_id], scorer_of)
    assert first.startswith(
        "a.csv: no answer can match 2 of 3 gold answers: the rule 'exact' gives even the gold answer"
    )
    assert "'Red' of question 0" in first
    assert second.startswith("b.csv: no answer can match 1 of 2 gold answers: ")
    with pytest.raises(
        DataError, match="no question of 3 can be answered rightly, and --select correct takes no others"
    ):
        check_gold(unmatched, scorer_of)
    check_gold(named, scorer_of)


def test_rules_say_why() -> None:
    assert all(scorer.quirk for scorer in SCORERS.values())
    assert np.all([not scorer.quirk.endswith(".") for scorer in SCORERS.values()])
