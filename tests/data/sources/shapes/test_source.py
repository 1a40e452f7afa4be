"""The data set on disk: whole, reproducible, reused, and read as any other question file."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.sources.shapes.answerer import answer, expressions
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.shapes.captions import caption
from xmflow_jax.data.sources.shapes.scenes import SPLITS, draw_generator, draw_scene, paint
from xmflow_jax.data.sources.shapes.source import drawn_questions, shapes_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS, task_of
from xmflow_jax.errors import DataError, OptionError

PER_TASK = 25


@pytest.fixture(name="written", scope="module")
def fixture_written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    return shapes_questions(tmp_path_factory.mktemp("shapes"), "test", PER_TASK, seed=4)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def scene_index(question: Question) -> int:
    return int(question.image_id.removeprefix("test"))


def test_questions_are_read_as_they_were_drawn(written: tuple[list[Path], Path]) -> None:
    files, images = written
    drawn = {(one.asked.task, one.question_id): one for one in drawn_questions("test", PER_TASK, seed=4)}
    questions = read_questions(files, images)
    assert len(questions) == len(drawn) == 6 * PER_TASK
    for question in questions:
        one = drawn[question.task, question.question_id]
        names_one = question.task in ("ChooseAttr", "ChooseCat", "QueryAttr")
        assert question == Question(
            question_id=one.question_id,
            image_id=one.image_id,
            image_path=images / f"{one.image_id}.png",
            text=one.asked.text,
            answer=one.asked.answer,
            task=one.asked.task,
            true_option=one.asked.true_option,
            false_option=one.asked.false_option,
            central_object=one.asked.name if names_one else None,
            boxes=tuple(one.scene.things[index].box for index in one.asked.things),
            image_size=(96, 96),
        )


def test_images_are_the_scenes_that_the_questions_are_about(written: tuple[list[Path], Path]) -> None:
    for question in read_questions(*written):
        scene = draw_scene(draw_generator(4, "test", scene_index(question)))
        assert answer(question.text, scene.things) == question.answer
        with Image.open(question.image_path) as image:
            np.testing.assert_array_equal(np.asarray(image), paint(scene))


def test_ids_are_unique_and_begin_with_zero(written: tuple[list[Path], Path]) -> None:
    ids = [question.question_id for question in read_questions(*written)]
    ids += [one.question_id for split in SPLITS if split != "test" for one in drawn_questions(split, PER_TASK)]
    assert len(set(ids)) == 3 * 6 * PER_TASK
    assert all(name.startswith("0") for name in ids)


def test_a_scene_gives_at_most_one_question_of_a_task_in_the_order_of_scenes(written: tuple[list[Path], Path]) -> None:
    questions = read_questions(*written)
    for task in STUDY_TASKS:
        indices = [scene_index(question) for question in questions if question.task == task]
        assert len(indices) == PER_TASK
        assert indices == sorted(set(indices))


def test_what_is_asked_depends_neither_on_the_count_nor_on_the_tasks() -> None:
    many = list(drawn_questions("train", 40, seed=9))
    few = list(drawn_questions("train", 10, seed=9))
    assert {one.question_id: one for one in many}.items() >= {one.question_id: one for one in few}.items()
    for task in STUDY_TASKS:
        of_task = [one for one in many if one.asked.task == task]
        assert of_task == list(drawn_questions("train", 40, seed=9, tasks=[task]))
        assert of_task[:10] == [one for one in few if one.asked.task == task]


def test_study_columns(written: tuple[list[Path], Path]) -> None:
    for path in written[0]:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        two = task_of(path) in ("LogicalObj", "ChooseRel", "CompareAttr")
        for row in rows:
            named = {row["object1 name"], row["object2 name"]} if two else {row["central object name"]}
            assert named == {"object" if words.endswith(" object") else words for words in expressions(row["question"])}
            assert ("true option" in row) == task_of(path).startswith("Choose")
            scene = draw_scene(draw_generator(4, "test", int(row["img_id"].removeprefix("test"))))
            assert row["captions"] == caption(scene)
        if task_of(path) == "LogicalObj":
            assert Counter(row["object2 x"] == "-" for row in rows) == Counter(row["answer"] == "no" for row in rows)


def test_same_seed_same_bytes_and_another_seed_or_split_others(tmp_path: Path) -> None:
    arguments = {"a": ("test", 2, 1), "b": ("test", 2, 1), "c": ("test", 2, 2), "d": ("train", 2, 1)}
    written = {}
    for name, values in arguments.items():
        files, _ = shapes_questions(tmp_path / name, *values)
        written[name] = content(files[0].parent)
    assert written["a"] == written["b"]
    assert written["a"] != written["c"]
    assert written["a"] != written["d"]


def test_what_is_complete_is_used_and_what_is_not_is_written_again(tmp_path: Path) -> None:
    files, images = shapes_questions(tmp_path, per_task=2)
    folder = files[0].parent
    before = content(folder)
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert shapes_questions(tmp_path, per_task=2, tasks=["ChooseRel", "ChooseAttr"]) == ([files[4], files[0]], images)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == times
    next(images.iterdir()).unlink()
    assert shapes_questions(tmp_path, per_task=2) == (files, images)
    assert content(folder) == before
    files[3].write_bytes(files[3].read_bytes()[:-9])
    (folder / "shapes.json").write_bytes((folder / "shapes.json").read_bytes()[:-9])
    shapes_questions(tmp_path, per_task=2)
    assert content(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("xmflow_jax.data.sources.shapes.source.write_study_csv", full_disk)
        with pytest.raises(DataError, match=r"shapes-test-2-seed0 cannot be written: No space left on device"):
            shapes_questions(tmp_path, per_task=2)
    assert list(tmp_path.iterdir()) == []
    files, images = shapes_questions(tmp_path, per_task=2)
    assert len(read_questions(files, images)) == 12


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "shapes-test-2-seed0" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("keep me")
    with pytest.raises(DataError, match="shapes-test-2-seed0 exists and is not what this program wrote there"):
        shapes_questions(tmp_path, per_task=2)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [mine]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"split": "testing"}, "split 'testing' is none of train, validation, test"),
        ({"tasks": ["ChooseAttr", "choose"]}, "tasks 'ChooseAttr, choose'; expected different ones of ChooseAttr,"),
        ({"tasks": ["ChooseAttr", "ChooseAttr"]}, "tasks 'ChooseAttr, ChooseAttr'; expected different ones"),
        ({"tasks": []}, "tasks 'none'; expected different ones"),
        ({"per_task": 0}, "0 questions per task of seed 0; expected 1 or more"),
        ({"seed": -1}, "200 questions per task of seed -1; expected 1 or more, and a seed of 0 or more"),
    ],
)
def test_faulty_arguments(tmp_path: Path, arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        shapes_questions(tmp_path / "new", **arguments)  # type: ignore[arg-type]
    assert complaint in str(caught.value)
    assert not (tmp_path / "new").exists()
