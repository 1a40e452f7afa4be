"""The demonstration questions must be true of their images, which these tests look at pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.stand_in_images import main
from tests.data.tiny_processing import load_processing, write_tiny_processing
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS
from xmflow_jax.data.templates import resolve_template

PER_TASK = 12
COLORS = {"red": (214, 40, 40), "green": (42, 157, 63), "blue": (38, 84, 214), "yellow": (240, 200, 30)}


@pytest.fixture(name="demo", scope="module")
def fixture_demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Question]]:
    paths, images = write_demo_questions(tmp_path_factory.mktemp("demo"), PER_TASK, seed=0)
    questions = read_questions(paths, images)
    return {task: [question for question in questions if question.task == task] for task in STUDY_TASKS}


def color_in(question: Question, box: Box) -> str:
    """The colour of the box's middle, which every shape covers."""
    with Image.open(question.image_path) as image:
        middle = np.asarray(image.convert("RGB"), int)[box.y + box.height // 2, box.x + box.width // 2]
    return min(COLORS, key=lambda color: float(np.abs(middle - np.array(COLORS[color])).sum()))


def side_of(question: Question, box: Box) -> str:
    with Image.open(question.image_path) as image:
        return "left" if box.x + box.width / 2 < image.width / 2 else "right"


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for part, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demo_questions(tmp_path / part, 2, seed)
    content = {
        part: {
            str(file.relative_to(tmp_path / part)): file.read_bytes() for file in sorted((tmp_path / part).rglob("*.*"))
        }
        for part in "abc"
    }
    assert len(content["a"]) == 6 + 12
    assert content["a"] == content["b"]
    assert content["a"].keys() == content["c"].keys()
    assert content["a"] != content["c"]


def test_six_tasks_with_unique_ids_that_start_with_zero(demo: dict[str, list[Question]]) -> None:
    assert {task: len(questions) for task, questions in demo.items()} == dict.fromkeys(STUDY_TASKS, PER_TASK)
    ids = [question.question_id for questions in demo.values() for question in questions]
    assert len(set(ids)) == 6 * PER_TASK
    assert all(name.startswith("0") for name in ids)


def test_boxes_enclose_their_objects(demo: dict[str, list[Question]]) -> None:
    for question in (question for questions in demo.values() for question in questions):
        with Image.open(question.image_path) as image:
            assert image.size == question.image_size
            pixels = np.asarray(image.convert("RGB"), int)
        painted = np.abs(pixels - np.array([236, 232, 224])).sum(axis=-1) > 120
        for box in question.boxes:
            inside = painted[box.y : box.y + box.height, box.x : box.x + box.width]
            assert inside.any(axis=0).mean() > 0.8  # the object reaches across its box both ways
            assert inside.any(axis=1).mean() > 0.8


def test_box_is_where_the_one_object_of_its_colour_is(demo: dict[str, list[Question]]) -> None:
    for question in demo["ChooseCat"]:
        (box,) = question.boxes
        with Image.open(question.image_path) as image:
            pixels = np.asarray(image.convert("RGB"), int)
        of_color = np.abs(pixels - np.array(COLORS[color_in(question, box)])).max(axis=-1) < 40
        rows, columns = np.flatnonzero(of_color.any(axis=1)), np.flatnonzero(of_color.any(axis=0))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(found, (box.x, box.y, box.x + box.width, box.y + box.height), atol=4)


def test_answers_are_true(demo: dict[str, list[Question]]) -> None:
    for question in demo["ChooseAttr"]:
        assert color_in(question, question.boxes[0]) == question.answer == question.true_option
    for question in demo["QueryAttr"]:
        assert side_of(question, question.boxes[0]) == question.answer
    for question in demo["ChooseRel"]:  # the second object is the one that the question begins with
        assert side_of(question, question.boxes[1]) == question.answer == question.true_option
        assert side_of(question, question.boxes[0]) == question.false_option
    for question in demo["LogicalObj"]:
        wanted = question.text.removesuffix("?").split()[-1]
        has_it = any(color_in(question, box) == wanted for box in question.boxes)
        assert question.answer == ("yes" if has_it else "no")
    for question in demo["CompareAttr"]:
        one, other = question.boxes
        same_color = color_in(question, one) == color_in(question, other)
        assert same_color != (one.width == other.width)
        assert question.answer == ("color" if same_color else "size")
    for question in demo["ChooseCat"]:
        assert color_in(question, question.boxes[0]) in question.text
        assert question.answer in question.text


def test_every_task_has_more_than_one_answer(demo: dict[str, list[Question]]) -> None:
    for task, questions in demo.items():
        assert len({question.answer for question in questions}) > 1, task
    assert {len(question.boxes) for question in demo["LogicalObj"]} == {1, 2}


def test_every_question_can_be_prepared_and_shows_its_object(demo: dict[str, list[Question]], tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    processing, template = load_processing(tmp_path), resolve_template("vicuna_v1")
    for task, questions in demo.items():
        for question in questions:
            prepared = prepare_question(question, processing, template)
            empty = {role for role, mask in prepared.roles.items() if not mask.any()}
            assert empty <= {"Image Pad", "Image Without Central Object"}, task


def test_stand_in_images_have_the_stated_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, real = write_demo_questions(tmp_path, 3, seed=0)
    images = tmp_path / "stand in"
    arguments = ["--data", *map(str, paths), "--images", str(images)]
    assert main([*arguments, "--samples", "2"]) == 0
    assert "wrote 12 stand-in images for 12 questions" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "wrote 6 stand-in images for 18 questions" in capsys.readouterr().out
    for path in real.iterdir():
        with Image.open(path) as image, Image.open(images / path.name) as stand_in:
            assert stand_in.size == image.size


def test_stand_in_images_for_a_faulty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("question_id,img_id,question,answer\n1,7,a?,b\n")
    for data, complaint in (("x.csv", "states no size for image 7"), ("none.csv", "no such question file")):
        assert main(["--data", str(tmp_path / data), "--images", str(tmp_path)]) == 2
        captured = capsys.readouterr()
        assert complaint in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
