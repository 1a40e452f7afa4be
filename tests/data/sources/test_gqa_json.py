"""GQA's question files and scene graphs, as published and as they go wrong."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.sources import benchmark_files as files
from tests.data.sources.benchmark_files import write_json
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.gqa_json import read_gqa_json
from xmflow_jax.data.sources.gqa_programs import options, references, task_of_types
from xmflow_jax.errors import DataError

JAR, FENCE, MAN = Box(1, 2, 10, 12), Box(0, 20, 48, 16), Box(30, 4, 9, 25)
GRASS, CHALKBOARD, PICTURE = Box(0, 30, 48, 6), Box(5, 5, 20, 15), Box(8, 0, 6, 4)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    return files.gqa_folder(tmp_path)


def asked(folder: Path) -> Path:
    return folder / "questions1.2" / "val_balanced_questions.json"


def graphs(folder: Path) -> Path:
    return folder / "sceneGraphs" / "val_sceneGraphs.json"


def refusal(folder: Path, scene_graphs: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_questions([asked(folder)], folder / "images", scene_graphs=scene_graphs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_field_as_the_files_tell_it(folder: Path) -> None:
    questions = read_questions([asked(folder)], folder / "images", scene_graphs=graphs(folder))
    assert questions[0] == Question(
        question_id="02930152",
        image_id="2354786",
        image_path=folder / "images" / "2354786.jpg",
        text="Is the jar full or empty?",
        answer="empty",
        task="ChooseAttr",
        true_option="empty",
        false_option="full",
        central_object="jar",
        boxes=(JAR,),
        image_size=(48, 36),
        answer_type="binary",
        question_type="choose attr",
        scorer="gqa",
    )
    tasks = ["ChooseAttr", "ChooseRel", "LogicalObj", "QueryAttr", "CompareAttr", "query rel"]
    assert [one.task for one in questions] == tasks
    assert [one.boxes for one in questions[1:]] == [(FENCE, MAN), (GRASS,), (JAR,), (JAR, FENCE), (CHALKBOARD, PICTURE)]
    # The study names one object only where a question is about one; the options as both wordings have them.
    assert [one.central_object for one in questions] == ["jar", None, None, "jar", None, None]
    assert (questions[1].true_option, questions[1].false_option) == ("front", "behind")
    assert [one.answer_type for one in questions] == ["binary", "binary", "binary", "open", "binary", "open"]
    assert all(one.image_path.is_file() for one in questions)


def test_without_scene_graphs_there_are_no_boxes(folder: Path) -> None:
    questions = read_questions([asked(folder)], folder)  # the folder of the folder `images` will do
    assert {(one.boxes, one.image_size) for one in questions} == {((), None)}
    assert questions[0].central_object == "jar"
    assert all(one.image_path.is_file() for one in questions)


def test_a_test_set_tells_question_and_image_alone(folder: Path) -> None:
    document = {"201": {"question": "Who is wearing the dress?", "imageId": "n578564", "isBalanced": True}}
    (only,) = read_gqa_json(write_json(folder / "test.json", document), None, folder)
    assert (only.answer, only.task, only.question_type, only.boxes) == ("", "gqa", None, ())


def test_several_objects_in_one_step_and_one_that_no_graph_holds(folder: Path) -> None:
    document = files.gqa_questions()
    document["15736264"]["semantic"][0]["argument"] = "things (13,11, 999)"
    questions = read_gqa_json(write_json(asked(folder), document), graphs(folder), folder)
    assert questions[3].boxes == (MAN, JAR)


def test_scene_graphs_of_another_split(folder: Path) -> None:
    document = {f"train{key}": value for key, value in files.gqa_scene_graphs().items()}
    other = write_json(folder / "train_sceneGraphs.json", document)
    assert refusal(folder, other) == (
        f"{other}: no scene graph of the image of all 6 questions of {asked(folder)}, the first being image 2354786; "
        "expected the scene graphs of the same split"
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.99])
def test_truncated_files(folder: Path, share: float) -> None:
    for path in (graphs(folder), asked(folder)):
        whole = path.read_text()
        path.write_text(whole[: int(share * len(whole))])
        complaint = refusal(folder, graphs(folder))
        assert complaint.startswith(f"{path}: ")
        assert "truncated?" in complaint or "is empty" in complaint


def test_files_in_each_others_place(folder: Path) -> None:
    with pytest.raises(DataError, match=r"val_sceneGraphs.json: '2354786' has None as its 'question'"):
        read_gqa_json(graphs(folder), asked(folder), folder)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({}, "no questions in this file"),
        ({"1": {"question": "a?"}}, "'1' has None as its 'imageId'; expected a file of VQA's layout"),
        ({"1": "a?"}, "'1' has None as its 'question'"),
        ({"1": {"question": "a?", "imageId": "2", "answer": 3}}, "question 1 has 3 as its 'answer'"),
    ],
)
def test_a_file_that_holds_something_else(folder: Path, document: dict[str, Any], complaint: str) -> None:
    write_json(asked(folder), document)
    assert refusal(folder).startswith(f"{asked(folder)}: {complaint}")


@pytest.mark.parametrize(("place", "value"), [("object", "3"), ("object", None), ("graph", 1.5)])
def test_a_scene_graph_with_a_value_that_is_no_number_of_pixels(folder: Path, place: str, value: object) -> None:
    document = files.gqa_scene_graphs()
    holder = document["2354786"] if place == "graph" else document["2354786"]["objects"]["11"]
    holder["width" if place == "graph" else "x"] = value
    write_json(graphs(folder), document)
    complaint = refusal(folder, graphs(folder))
    assert complaint.startswith(f"{graphs(folder)}: image 2354786")
    assert f"has {value!r} as its" in complaint


# Rows of the study's own files (arXiv 2411.18620): a program, the answer, and what their authors read from it.
STUDY_ROWS: list[tuple[str, list[tuple[str, str]], str, list[tuple[str, str]], tuple[str, str] | None]] = [
    (
        "categoryThatChoose",
        [("select", "vehicle (3812499)"), ("filter color", "not(white)"), ("choose name", "bus|car")],
        "car",
        [("vehicle", "3812499")],
        ("car", "bus"),
    ),
    (
        "relChooser",
        [("select", "shelf (3053627)"), ("choose rel", "stuffed animal,to the left of|to the right of,s (3199609)")],
        "left",
        [("shelf", "3053627"), ("stuffed animal", "3199609")],
        ("left", "right"),
    ),
    (
        "existThatOr",
        [
            ("select", "child (916858)"),
            ("filter pose", "walking"),
            ("exist", "?"),
            ("select", "people (916859) "),
            ("filter pose", "walking"),
            ("exist", "?"),
            ("or", ""),
        ],
        "yes",
        [("child", "916858"), ("people", "916859")],
        None,
    ),
    (
        "chooseAttr",
        [("select", "jar (496168)"), ("choose", "empty|full")],
        "empty",
        [("jar", "496168")],
        ("empty", "full"),
    ),
    (
        "twoCommon",
        [("select", "stump (222994)"), ("select", "fence (223008) "), ("common", "")],
        "material",
        [("stump", "222994"), ("fence", "223008")],
        None,
    ),
]
TASK_OF = {
    "categoryThatChoose": "ChooseCat",
    "relChooser": "ChooseRel",
    "existThatOr": "LogicalObj",
    "chooseAttr": "ChooseAttr",
    "twoCommon": "CompareAttr",
}


@pytest.mark.parametrize(("detailed", "program", "answer", "objects", "chosen"), STUDY_ROWS)
def test_programs_as_the_study_reads_them(
    detailed: str,
    program: list[tuple[str, str]],
    answer: str,
    objects: list[tuple[str, str]],
    chosen: tuple[str, str] | None,
) -> None:
    steps = [{"operation": operation, "argument": argument} for operation, argument in program]
    assert [(one.name, ",".join(one.ids)) for one in references(steps)] == objects
    assert options(steps, answer) == chosen
    assert task_of_types({"detailed": detailed, "structural": "s", "semantic": "t"}) == TASK_OF[detailed]


def test_a_choice_that_does_not_hold_the_answer_names_no_options() -> None:
    steps = [{"operation": "choose color", "argument": "red|blue"}]
    assert options(steps, "green") is None
    assert options([], "red") is None
    assert references([{"operation": "select", "argument": "scene"}]) == ()
