import csv
from pathlib import Path

import pytest

from xmflow_jax.data.question import Box
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.study_csv import object_cells, objects_of, read_study_csv, write_study_csv
from xmflow_jax.errors import DataError

ONE_OBJECT = {
    "question_id": "00556075",
    "img_id": "2363785",
    "question": "Is the shirt red or blue?",
    "answer": "red",
    "true option": "red",
    "false option": "blue",
    "central object name": "shirt",
    "captions": 'a "red" shirt, on a man.\nanother line',
    "image_w": "500",
    "image_h": "375",
    "central object w": "40",
    "central object h": "30",
    "central object x": "20",
    "central object y": "10",
}
TWO_OBJECTS = {
    "question_id": "1",
    "img_id": "7",
    "question": "Is there any sand or grass?",
    "answer": "yes",
    "object1 name": "sand",
    "object1 id": "12",
    "object2 name": "grass",
    "object2 id": "-",
    **{f"object1 {side}": number for side, number in zip("whxy", "5678", strict=True)},
    **{f"object2 {side}": "-" for side in "whxy"},
}


def write(path: Path, *rows: dict[str, str], encoding: str = "utf-8", line_end: str = "\n") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator=line_end)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_field_of_a_question_about_one_object(tmp_path: Path) -> None:
    path = write(tmp_path / "GQA_val_choose_ChooseAttr.csv", ONE_OBJECT)
    (tmp_path / "images").mkdir()
    (question,) = read_study_csv(path, tmp_path / "images")
    assert question.question_id == "00556075"
    assert question.image_id == "2363785"
    assert question.image_path == tmp_path / "images" / "2363785.jpg"
    assert question.text == "Is the shirt red or blue?"
    assert (question.answer, question.task) == ("red", "ChooseAttr")
    assert (question.true_option, question.false_option) == ("red", "blue")
    assert question.central_object == "shirt"
    assert question.boxes == (Box(x=20, y=10, width=40, height=30),)
    assert question.image_size == (500, 375)


def test_second_object_may_be_absent_and_no_name_is_central(tmp_path: Path) -> None:
    present = TWO_OBJECTS | {f"object2 {side}": "9" for side in "whxy"} | {"question_id": "2"}
    absent, both = read_study_csv(write(tmp_path / "x_LogicalObj.csv", TWO_OBJECTS, present), tmp_path)
    assert absent.boxes == (Box(x=7, y=8, width=5, height=6),)
    assert both.boxes == (Box(7, 8, 5, 6), Box(9, 9, 9, 9))
    assert absent.central_object is None
    assert absent.true_option is None
    assert absent.image_size is None


@pytest.mark.parametrize("answer", ["None", "NA", "null", "nan", "N/A", "007", "1e5", "TRUE"])
def test_answers_that_look_like_something_else_stay_text(tmp_path: Path, answer: str) -> None:
    (question,) = read_study_csv(write(tmp_path / "a.csv", ONE_OBJECT | {"answer": answer}), tmp_path)
    assert question.answer == answer


def test_byte_order_mark_and_carriage_returns_change_nothing(tmp_path: Path) -> None:
    plain = read_study_csv(write(tmp_path / "t.csv", ONE_OBJECT, TWO_OBJECTS_AS_ONE), tmp_path)
    (tmp_path / "w").mkdir()
    windows = write(tmp_path / "w" / "t.csv", ONE_OBJECT, TWO_OBJECTS_AS_ONE, encoding="utf-8-sig", line_end="\r\n")
    assert read_study_csv(windows, tmp_path) == plain


TWO_OBJECTS_AS_ONE = ONE_OBJECT | {"question_id": "2", "question": "Où est le café?"}


def test_task_is_the_last_part_of_the_name_only_if_it_is_one_of_the_six(tmp_path: Path) -> None:
    for name, task in {"a_b_ChooseRel": "ChooseRel", "CompareAttr": "CompareAttr", "my_own": "my_own"}.items():
        assert read_study_csv(write(tmp_path / f"{name}.csv", ONE_OBJECT), tmp_path)[0].task == task


@pytest.mark.parametrize(
    ("image_id", "files", "expected"),
    [
        ("12", [], "12.jpg"),
        ("12", ["12.png"], "12.png"),
        ("12", ["12.jpeg"], "12.jpeg"),
        ("12", ["12.jpg", "12.png"], "12.jpg"),
        ("12.png", ["12.jpg"], "12.png"),
        ("a.JPG", [], "a.JPG"),
        ("COCO_1.5", [], "COCO_1.5.jpg"),
    ],
)
def test_image_file(tmp_path: Path, image_id: str, files: list[str], expected: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    (question,) = read_study_csv(write(tmp_path / "t.csv", ONE_OBJECT | {"img_id": image_id}), tmp_path)
    assert question.image_path == tmp_path / expected


def test_resaved_integers_are_still_integers(tmp_path: Path) -> None:
    (question,) = read_study_csv(write(tmp_path / "t.csv", ONE_OBJECT | {"central object x": "20.0"}), tmp_path)
    assert question.boxes[0].x == 20


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"central object x": "left"}, r"line 4: 'central object x' is 'left'"),
        ({"central object x": "1.5"}, r"line 4: 'central object x' is '1.5'"),
        ({"central object x": "nan"}, r"line 4: 'central object x' is 'nan'"),
        ({"central object h": "-"}, r"line 4: 'central object h' is absent"),
        ({"image_w": ""}, r"line 4: 'image_w' is absent"),
        ({"answer": " "}, r"line 4: 'answer' is empty"),
        ({"question_id": ONE_OBJECT["question_id"]}, r"'00556075' is in line 5 and already in line 3"),
    ],
)
def test_faulty_value_is_named_with_its_line(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    # The first row's captions hold a line end, so the second row is not in line 3.
    faulty = ONE_OBJECT | {"question_id": "2", "captions": "short"} | change
    path = write(tmp_path / "t.csv", ONE_OBJECT, faulty)
    with pytest.raises(DataError, match=complaint.replace("line 5", "line 4")) as caught:
        read_study_csv(path, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"question_id,img_id,question\n1,2,three\n", "no column 'answer'"),
        (b"question_id,img_id,question,answer\n", "no questions in this file"),
        (b"question_id,img_id,question,answer\n1,2,caf\xe9,x\n", "not UTF-8 text .byte 0xe9"),
        (b"\xff\xd8\xff\xe0 a jpeg", "not UTF-8 text .byte 0xff"),
        (b'[{"question": "a"}]', "no column 'question_id'"),
        (b"question_id,img_id,question,answer\n1,2,three\n", "line 2: the row has not 4 cells"),
        (b"question_id,img_id,question,answer\n1,2,three,4,5\n", "line 2: the row has not 4 cells"),
        (b'question_id,img_id,question,answer\n1,2,"three,4\n', "not a CSV file"),
        (b"question_id,img_id,question,answer,answer\n1,2,3,4,5\n", "'answer' appears more than once"),
    ],
)
def test_unusable_file_is_refused_in_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad_ChooseAttr.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        read_study_csv(path, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_stands_for_its_files_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b_ChooseCat.csv", ONE_OBJECT)
    write(tmp_path / "a_ChooseAttr.csv", ONE_OBJECT)
    (tmp_path / "readme.txt").write_text("not a question file")
    questions = read_questions([tmp_path], tmp_path)
    assert [question.task for question in questions] == ["ChooseAttr", "ChooseCat"]  # ids may repeat across tasks


def test_same_id_twice_in_one_task_is_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{part}_ChooseAttr.csv", ONE_OBJECT) for part in "ab"]
    with pytest.raises(DataError, match=r"b_ChooseAttr.csv: question id '00556075' of task ChooseAttr is already in"):
        read_questions(paths, tmp_path)


def test_unusable_paths_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", ONE_OBJECT)
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.xlsx").touch()
    for paths, images, complaint in [
        ([tmp_path / "none.csv"], tmp_path, "none.csv: no such question file"),
        ([tmp_path / "empty"], tmp_path, r"empty: no question file in this folder; expected \*.csv"),
        ([tmp_path / "t.xlsx"], tmp_path, r"kind '.xlsx' cannot be read; expected \*.csv"),
        ([file, tmp_path], tmp_path, "named twice"),
        ([file], tmp_path / "no images", "no such image folder"),
        ([], tmp_path, "no question file was given"),
    ]:
        with pytest.raises(DataError, match=complaint):
            read_questions(paths, images)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    one = {column: cell for column, cell in ONE_OBJECT.items() if not column.startswith("central object")}
    one |= object_cells("central object", "shirt", Box(20, 10, 40, 30))
    assert one == ONE_OBJECT
    write_study_csv(tmp_path / "w_ChooseAttr.csv", "ChooseAttr", [one])
    write(tmp_path / "r_ChooseAttr.csv", ONE_OBJECT)
    assert read_study_csv(tmp_path / "w_ChooseAttr.csv", tmp_path) == read_study_csv(
        tmp_path / "r_ChooseAttr.csv", tmp_path
    )
    assert objects_of("LogicalObj") == ("object1", "object2")
    two = {column: cell for column, cell in TWO_OBJECTS.items() if not column.startswith("object")}
    two |= {"image_w": "-", "image_h": "-", "question": 'Is there "sand", or\ngrass?'}
    two |= object_cells("object1", "sand", Box(7, 8, 5, 6)) | object_cells("object2", "grass", None)
    write_study_csv(tmp_path / "w_LogicalObj.csv", "LogicalObj", [two, two | {"question_id": "007"}])
    first, second = read_study_csv(tmp_path / "w_LogicalObj.csv", tmp_path)
    assert (first.text, first.boxes, first.image_size) == ('Is there "sand", or\ngrass?', (Box(7, 8, 5, 6),), None)
    assert second.question_id == "007"


def test_cells_without_a_column_are_not_dropped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="true option"):
        write_study_csv(tmp_path / "w_QueryAttr.csv", "QueryAttr", [ONE_OBJECT])
