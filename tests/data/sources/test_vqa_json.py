"""VQA v2's and OK-VQA's files, as published and as they go wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.sources import benchmark_files as files
from tests.data.sources.benchmark_files import ANSWERS, ASKED, Json, coco_name, write_json
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.json_documents import read_json_document
from xmflow_jax.data.sources.vqa_json import read_vqa_json
from xmflow_jax.errors import DataError

QUESTIONS, ANNOTATIONS = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    return files.vqa_v2_folder(tmp_path)


def refusal(folder: Path, questions: str = QUESTIONS, annotations: str | None = ANNOTATIONS) -> str:
    with pytest.raises(DataError) as caught:
        read_questions([folder / questions], folder, None if annotations is None else folder / annotations)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_field_as_the_files_tell_it(folder: Path) -> None:
    questions = read_questions([folder / QUESTIONS], folder, folder / ANNOTATIONS)
    assert questions[0] == Question(
        question_id="262148000",
        image_id="262148",
        image_path=folder / "val2014" / "COCO_val2014_000000262148.jpg",
        text="Where is he looking?",
        answer="down",
        task="vqa_v2",
        answers=("down",) * 6 + ("at table", "skateboard", "down", "table"),
        answer_type="other",
        question_type="none of the above",
        scorer="vqa",
    )
    assert [question.text for question in questions] == [text for *_, text in ASKED]
    assert [list(question.answers) for question in questions] == ANSWERS
    # The authors' choice, although most people said otherwise.
    assert questions[1].answer == "spectating"
    assert all(question.image_path.is_file() for question in questions)


def test_without_the_optional_fields(folder: Path) -> None:
    """As the files of some mirrors are: no subset, no image ids, no types, no choice of the authors."""
    document = files.vqa_annotations()
    for entry in document["annotations"]:
        for key in ("image_id", "question_type", "answer_type", "multiple_choice_answer"):
            del entry[key]
        entry["answers"] = [{"answer": one["answer"]} for one in entry["answers"]]
    bare = write_json(folder / "answers.json", {"annotations": document["annotations"]})
    asked = write_json(folder / "asked.json", {"questions": files.vqa_questions()["questions"]})
    _, second, third = read_vqa_json(asked, bare, folder)
    assert (second.answer, second.answers) == ("watching", tuple(ANSWERS[1]))
    assert (second.answer_type, second.question_type, second.task) == (None, None, "vqa")
    # Which subset the image is of follows from the folder alone.
    assert third.image_path == folder / "val2014" / coco_name(393225)


def test_ok_vqa_is_told_from_its_annotations(tmp_path: Path) -> None:
    folder = files.ok_vqa_folder(tmp_path)
    annotations = folder / "mscoco_val2014_annotations.json"
    questions = read_questions([folder / "OpenEnded_mscoco_val2014_questions.json"], folder, annotations)
    assert {(one.task, one.scorer, one.question_type) for one in questions} == {("ok_vqa", "vqa", "four")}
    # `answer`, which is scored against, not `raw_answer`.
    assert [list(question.answers) for question in questions] == ANSWERS
    assert [question.answer for question in questions] == ["down", "watching", "foodiebakercom"]


@pytest.mark.parametrize("place", ["", "val2014", "images", "images/val2014", "coco/val2014"])
def test_images_where_archives_put_them(tmp_path: Path, place: str) -> None:
    asked = write_json(tmp_path / "q.json", files.vqa_questions())
    answers = write_json(tmp_path / "a.json", files.vqa_annotations())
    lying = files.vqa_images(tmp_path / "pictures" / place)
    questions = read_vqa_json(asked, answers, tmp_path / "pictures")
    assert [question.image_path for question in questions] == [lying[0], lying[0], lying[1]]


def test_an_image_that_lies_nowhere_is_named_as_it_was_looked_for(folder: Path) -> None:
    (folder / "val2014" / coco_name(393225)).unlink()
    last = read_vqa_json(folder / QUESTIONS, folder / ANNOTATIONS, folder)[-1]
    assert last.image_path == folder / coco_name(393225)


@pytest.mark.parametrize("subset", ["test2015", "test-dev2015"])
def test_a_test_set_keeps_its_answers_back(tmp_path: Path, subset: str) -> None:
    asked = write_json(tmp_path / f"v2_OpenEnded_mscoco_{subset}_questions.json", files.vqa_questions(subset))
    files.vqa_images(tmp_path / "test2015", "test2015")
    first, *_ = read_questions([asked], tmp_path)
    assert (first.answer, first.answers, first.scorer) == ("", (), "vqa")
    assert first.image_path == tmp_path / "test2015" / coco_name(262148, "test2015")
    assert first.image_path.is_file()


def test_annotations_may_hold_more_than_is_asked(folder: Path) -> None:
    document = files.vqa_questions()
    document["questions"] = document["questions"][2:]
    (only,) = read_vqa_json(write_json(folder / "few.json", document), folder / ANNOTATIONS, folder)
    assert only.answers == tuple(ANSWERS[2])


def test_annotations_of_another_subset(folder: Path) -> None:
    files.vqa_v2_folder(folder, "train2014")
    complaint = refusal(folder, "v2_OpenEnded_mscoco_train2014_questions.json")
    assert complaint == (
        f"{folder / ANNOTATIONS}: annotations of val2014, but the questions in "
        f"{folder / 'v2_OpenEnded_mscoco_train2014_questions.json'} are of train2014"
    )


def test_annotations_of_other_questions(folder: Path) -> None:
    document = files.vqa_annotations()
    for entry in document["annotations"][1:]:
        entry["question_id"] += 5
    write_json(folder / ANNOTATIONS, document)
    complaint = refusal(folder)
    assert complaint.startswith(f"{folder / ANNOTATIONS}: no annotation for 2 of 3 questions of {folder / QUESTIONS}")
    assert "question 262148001" in complaint


def test_annotations_about_other_images(folder: Path) -> None:
    document = files.vqa_annotations()
    document["annotations"][2]["image_id"] = 1
    write_json(folder / ANNOTATIONS, document)
    assert f"{folder / ANNOTATIONS}: question 393225000 is about image 1 here, but about image 393225" in refusal(
        folder
    )


def test_questions_that_need_annotations_say_so(folder: Path) -> None:
    complaint = refusal(folder, annotations=None)
    assert complaint == (
        f"{folder / QUESTIONS}: questions of val2014 are scored against human answers; name their file: --annotations"
    )


def test_files_in_each_others_place(folder: Path) -> None:
    complaint = refusal(folder, ANNOTATIONS, QUESTIONS)
    assert complaint == f"{folder / ANNOTATIONS}: no list of questions in this file; it holds annotations"
    complaint = refusal(folder, QUESTIONS, QUESTIONS)
    assert complaint == f"{folder / QUESTIONS}: no list of annotations in this file; it holds questions"


def test_annotations_with_no_question_file_to_go_with(folder: Path) -> None:
    gqa = write_json(folder / "gqa.json", files.gqa_questions())
    assert "annotations were given, but none" in refusal(folder, gqa.name)


@pytest.mark.parametrize("name", [QUESTIONS, ANNOTATIONS])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_download(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_text()
    (folder / name).write_text(whole[: int(share * len(whole))])
    complaint = refusal(folder)
    assert complaint.startswith(f"{folder / name}: ")
    assert "truncated?" in complaint or "is empty" in complaint


def test_any_cut_is_called_a_truncation(tmp_path: Path) -> None:
    whole = json.dumps({"questions": [{"question": 'a "b" {c?', "known": [True, None, -1.5e3], "none": {}}]})
    for end in range(1, len(whole)):
        (tmp_path / "cut.json").write_text(whole[:end])
        with pytest.raises(DataError) as caught:
            read_json_document(tmp_path / "cut.json")
        # Cut right after a closing brace, it may also be faulty.
        assert "truncated?" in str(caught.value) or whole[end - 1] == "}", whole[:end]


def test_a_missing_file(folder: Path) -> None:
    assert refusal(folder, annotations="none.json") == f"{folder / 'none.json'}: no such file"
    assert refusal(folder, "none.json") == f"{folder / 'none.json'}: no such question file"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xd8\xff\xe0 a jpeg", "not UTF-8 text (byte 0); expected a JSON file"),
        (b"<html>404</html>", "not JSON: Expecting value in line 1, column 1"),
        (b"[1, 2]", "holds a JSON list; expected an object"),
        (b'{"questions": []} {}', "not JSON: Extra data in line 1, column 19"),
        (b'{"questions": []}', "the list of questions is empty"),
        (b'{"questions": {"1": 2}}', "no list of questions in this file; it holds questions"),
        (b'{"questions": [7]}', "number 0 of the questions is 7; expected an object"),
        (b'{"questions": [{"question_id": 1, "question": "a?"}]}', "number 0 of the questions has no 'image_id'"),
    ],
)
def test_a_file_that_holds_something_else(folder: Path, content: bytes, complaint: str) -> None:
    (folder / QUESTIONS).write_bytes(content)
    assert refusal(folder) == f"{folder / QUESTIONS}: {complaint}"


def changed(name: str, change: Callable[[list[Json]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document["questions" if name == QUESTIONS else "annotations"])
        write_json(folder / name, document)

    return apply


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (changed(QUESTIONS, lambda asked: asked.append(asked[0])), "question id 262148000 is there twice"),
        (changed(QUESTIONS, lambda asked: asked[1].update(question="  ")), "the text of question 262148001 is '  '"),
        (changed(ANNOTATIONS, lambda given: given.append(given[0])), "question id 262148000 is there twice"),
        (changed(ANNOTATIONS, lambda given: given[0].update(answers=[])), "question 262148000 has the answers []"),
        (changed(ANNOTATIONS, lambda given: given[0].update(answers=["cat"])), "262148000 has the answer 'cat'; expec"),
        (changed(ANNOTATIONS, lambda given: given[0].pop("answers")), "number 0 of the annotations has no 'answers'"),
    ],
)
def test_a_faulty_entry_is_named(folder: Path, change: Callable[[Path], None], complaint: str) -> None:
    change(folder)
    assert complaint in refusal(folder)
