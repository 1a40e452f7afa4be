"""`--data` and `--images`: files that cannot be used at all end the command; a question that cannot is set aside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.commands.refusal import LAYERS, Given, Refusal, write_given
from xmflow_jax.run.folder import read_rows, read_skipped
from xmflow_jax.sweep import main

pytestmark = pytest.mark.usefixtures("quickly_compiled", "unprepared_process")

Write = Callable[[pd.DataFrame], bytes]


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return write_given(tmp_path_factory.mktemp("given"))


def text(table: pd.DataFrame) -> str:
    return table.to_csv(index=False)


def without(column: str) -> Write:
    return lambda table: text(table.drop(columns=column)).encode()


def with_cell(column: str, value: str) -> Write:
    """In the first row."""

    def write(table: pd.DataFrame) -> bytes:
        table.loc[0, column] = value
        return text(table).encode()

    return write


# A question file's content, made from a sound one's, and what the line must name beside the file.
BAD: dict[str, tuple[Write, tuple[str, ...]]] = {
    **{
        f"no column {column}": (without(column), (f"no column '{column}'", "question_id, img_id, question, answer"))
        for column in ("question_id", "img_id", "question", "answer")
    },
    "empty": (lambda table: b"", ("the file is empty", "question_id")),
    "blank lines only": (lambda table: b"\n\n \n", ("the file is empty", "question_id")),
    "no rows": (lambda table: text(table.head(0)).encode(), ("no questions",)),
    "doubled ids": (
        lambda table: text(pd.concat([table, table.head(1)])).encode(),
        ("'00000005'", "line 4", "line 2", "unique"),
    ),
    "Latin-1": (lambda table: text(table).replace("side", "sidé").encode("latin-1"), ("0xe9", "UTF-8")),
    "UTF-16": (lambda table: text(table).encode("utf-16"), ("0xff", "UTF-8")),
    "no CSV": (lambda table: text(table).encode() + b'"unclosed,\n', ("not a CSV file",)),
    "a cell too few": (lambda table: text(table).encode() + b"a,b\n", ("line 4", "11 cells")),
    "column twice": (lambda table: text(table).replace("image_w", "answer", 1).encode(), ("'answer'", "once")),
    "empty cell": (with_cell("answer", " "), ("line 2", "'answer' is empty")),
    "number that is none": (with_cell("central object x", "left"), ("line 2", "'central object x' is 'left'")),
    "box with a gap": (with_cell("central object w", "-"), ("line 2", "'central object w' is absent")),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_question_file_that_cannot_be_used_is_refused_in_one_line(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write, named = BAD[kind]
    file = tmp_path / "own_QueryAttr.csv"
    file.write_bytes(write(given.table()))
    line = Refusal(capsys, tmp_path)(given.command(tmp_path / "out", "--data", str(file)))
    for words in (str(file), *named):
        assert words in line


BAD_JSON = {
    "truncated": (b'{"questions": [', "ends too early"),
    "empty": (b"", "empty"),
    "wrong encoding": ('{"questions": "é"}'.encode("latin-1"), "UTF-8"),
    "another kind": (b"[]", "list"),
    "no questions": (b'{"questions": []}', "empty"),
    "half a character": (
        b'{"1": {"question": "Is it\\ud83d?", "imageId": "5"}}',
        "'Is it\\ud83d?', which holds half of a",
    ),
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_json_file_that_cannot_be_used_is_refused_in_one_line(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    data, named = BAD_JSON[kind]
    file = tmp_path / "questions.json"
    file.write_bytes(data)
    line = Refusal(capsys, tmp_path)(given.command(tmp_path / "out", "--data", str(file)))
    assert str(file) in line
    assert named in line


# Options, and what the line must name; {file} is the sound file, {tmp} a folder with a copy of it and a text file.
BAD_PATHS = {
    "data missing": (["--data", "{tmp}/nowhere.csv"], ("{tmp}/nowhere.csv", "no such question file")),
    "data of another kind": (["--data", "{tmp}/notes.txt"], ("{tmp}/notes.txt", "'.txt'", "*.csv")),
    "folder without question files": (["--data", "{given}/images"], ("{given}/images", "*.csv")),
    "file named twice": (["--data", "{file}", "{file}"], ("{file}", "twice")),
    "ids doubled over files": (["--data", "{file}", "{tmp}/copy_QueryAttr.csv"], ("'00000005'", "already in {file}")),
    "image folder missing": (["--images", "{tmp}/nowhere"], ("{tmp}/nowhere", "no such image folder")),
    "image folder is a file": (["--images", "{tmp}/notes.txt"], ("{tmp}/notes.txt", "no such image folder")),
    "data with a line end": (["--data", "two\nlines.csv"], ("two lines.csv",)),
    "data with a long name": (["--data", "{long}.csv"], ("{long}.csv", "too long")),
    "image folder with a long name": (["--images", "{long}"], ("{long}", "too long")),
}


@pytest.mark.parametrize("kind", BAD_PATHS)
def test_paths_that_cannot_be_used_are_refused_in_one_line(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "notes.txt").write_text("no questions")
    (tmp_path / "copy_QueryAttr.csv").write_bytes(given.file.read_bytes())
    words, named = BAD_PATHS[kind]
    places = {"tmp": tmp_path, "file": given.file, "given": given.images.parent, "long": "x" * 3000}
    line = Refusal(capsys, tmp_path)(given.command(tmp_path / "out", *(word.format(**places) for word in words)))
    for name in named:
        assert name.format(**places) in line


# A cell of the question, and what its reason must name.
ASIDE: dict[str, tuple[dict[str, str], str]] = {
    "missing image": ({"img_id": "nowhere"}, "nowhere.jpg does not exist"),
    "image with a long name": ({"img_id": "x" * 300}, "cannot be read"),
    "truncated image": ({"img_id": "half"}, "half.jpg cannot be read"),
    "image of no bytes": ({"img_id": "nothing"}, "nothing.jpg cannot be read"),
    "text in an image's place": ({"img_id": "text"}, "text.jpg cannot be read"),
    "not found in its prompt": (
        {"question": "Is the \ufb01gure red?"},
        "'Is the \ufb01gure red?' is not in the prompt's text",
    ),
    "image placeholder in the question": ({"question": "Is <image> red?"}, "'Is <image> red?' holds <image>"),
    "box outside its image": ({"central object x": "9999"}, "x 9999"),
    "box of no area": ({"central object w": "0"}, "width 0"),
    "box of another image": ({"image_w": "9999"}, "9999x"),
}


@pytest.fixture(name="run", scope="module")
def fixture_run(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over two sound questions with all the unusable ones between them."""
    folder = tmp_path_factory.mktemp("aside")
    images = folder / "images"
    images.mkdir()
    for image in given.images.iterdir():
        (images / image.name).write_bytes(image.read_bytes())
    table = given.table()
    sound = (images / f"{table.loc[0, 'img_id']}.jpg").read_bytes()
    (images / "half.jpg").write_bytes(sound[: len(sound) // 2])
    (images / "nothing.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("<html>404</html>")
    unusable = [{**table.iloc[0], "question_id": kind, **cells} for kind, (cells, _) in ASIDE.items()]
    rows = pd.concat([table.head(1), pd.DataFrame(unusable), table.tail(1)])
    file = folder / "own_QueryAttr.csv"
    file.write_text(text(rows))
    # A tokenizer that rewrites ligatures, as many do: their letters then stand nowhere in the prompt.
    model = given.copied_model(folder / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": {"type": "NFKC"}}))
    more = ("--model", str(model), "--images", str(images), "--pathways", "Last->Last", "--answer-length", "1")
    assert main(given.command(folder / "out", "--data", str(file), *more)) == 0
    return folder / "out"


@pytest.mark.parametrize("kind", ASIDE)
def test_a_question_that_cannot_be_used_is_set_aside_with_its_reason(run: Path, kind: str) -> None:
    skipped = read_skipped(run).set_index("question_id").loc[kind]
    assert skipped["kind"] == "set_aside"
    assert ASIDE[kind][1] in skipped["reason"]
    assert "\n" not in skipped["reason"]
    recorded = {one["question_id"]: one["reason"] for one in record(run)["set_aside"]}
    assert recorded[kind] == skipped["reason"]
    assert kind not in set(read_rows(run)["question_id"])


def test_the_run_goes_on_behind_them_and_counts_them(run: Path, given: Given) -> None:
    rows = read_rows(run)
    assert set(rows["question_id"]) == set(given.table()["question_id"])
    assert len(rows) == 2 * LAYERS
    assert record(run)["counts"] == {"finished": 2, "set_aside": len(ASIDE), "not_selected": {}}


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--preview", "2"]], ids=["", "dry run", "preview"])
def test_a_run_of_unusable_questions_alone_is_refused(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    (tmp_path / "images").mkdir()
    command = given.command(tmp_path / "out", "--images", str(tmp_path / "images"), *more)
    first = f"{given.table().loc[0, 'img_id']}.jpg"
    assert Refusal(capsys, tmp_path)(command) == (
        f"no image of 2 questions is there; the first looked for is {tmp_path / 'images' / first}"
    )
    for image in given.table()["img_id"]:
        (tmp_path / "images" / f"{image}.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    if "--preview" in more:
        assert main(command) == 2
        assert "none of the 2 question(s) can be shown" in capsys.readouterr().err
    else:
        line = Refusal(capsys, tmp_path)(command)
        assert line.startswith("no question of 2 can be used; the first: image ")
        assert first in line
        assert "git-lfs pointer" in line


def record(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "run.json").read_text())
    return content
