"""Damaged, empty and half-finished run folders: what can be said is said, and what is missing is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.written_run import data_of, write_run
from tests.run.result_rows import row
from xmflow_jax.errors import RunFolderError
from xmflow_jax.report.page.pages import run_page
from xmflow_jax.report.run_content import TOLD_PARTS, read_content
from xmflow_jax.run.folder import open_run, read_cards, read_lens, read_rows, read_skipped
from xmflow_jax.run.parts import part_path, read_part, table_of, write_part
from xmflow_jax.run.record import PLANNED_KEY, SHAPE_KEY
from xmflow_jax.run.schemas import FOLDERS


def part(folder: Path, kind: str, place: int = 0) -> Path:
    return sorted((folder / FOLDERS[kind]).glob(f"{kind}-*.parquet"))[place]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tasks=("ChooseAttr",), questions=4)


def test_a_sound_folder_is_read_as_a_sweep_reads_it(folder: Path) -> None:
    content = read_content(folder)
    assert content.damage == ()
    tables = (content.rows, content.skipped, content.lens, content.cards)
    for own, read in zip(tables, (read_rows, read_skipped, read_lens, read_cards), strict=True):
        assert len(own)
        assert own.map(repr).equals(read(folder).map(repr))  # arrays have no equality of their own
    assert content.seed == 3
    assert content.shape is not None
    assert content.shape.layers == 4
    assert content.planned == {"ChooseAttr": 4}
    assert content.finished == 5


@pytest.mark.parametrize("kind", ["part", "skipped", "lens", "cards"])
def test_a_damaged_part_is_named_and_the_others_count(kind: str, folder: Path) -> None:
    before = read_content(folder)
    harmed = part(folder, kind)
    lost = read_part(harmed, kind)
    truncate(harmed)
    content = read_content(folder)
    assert lost is not None
    name = {"part": "rows"}.get(kind, kind)
    assert len(getattr(content, name)) == len(getattr(before, name)) - lost.num_rows
    (sentence,) = content.damage
    assert str(harmed) in sentence
    page = run_page(data_of(folder))
    assert f"Missing or damaged: {harmed}" in page.replace("&#x27;", "'")


def test_a_part_of_another_version_is_named(folder: Path) -> None:
    shutil.copy(part(folder, "skipped"), part(folder, "lens"))
    (sentence,) = read_content(folder).damage
    assert "written by another version" in sentence


def test_rows_that_are_there_twice_count_once(folder: Path) -> None:
    before = len(read_content(folder).rows)
    shutil.copy(part(folder, "part"), folder / "results" / "part-00900.parquet")
    content = read_content(folder)
    assert len(content.rows) == before
    assert any("rows twice" in sentence for sentence in content.damage)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda folder: (folder / "run.json").unlink(), "holds no run.json"),
        (lambda folder: (folder / "run.json").write_text("{}"), "does not describe a run"),
        (
            lambda folder: (folder / "run.json").write_text(
                (folder / "run.json").read_text().replace("float32", "float64")
            ),
            "was edited",
        ),
    ],
    ids=["gone", "empty", "edited"],
)
def test_rows_without_a_record_are_reported_without_what_it_told(
    harm: Callable[[Path], None], why: str, folder: Path
) -> None:
    harm(folder)
    content = read_content(folder)
    assert len(content.rows)
    assert content.shape is None
    assert content.planned is None
    (sentence,) = content.damage
    assert why in sentence
    assert "not known" in sentence
    data = data_of(folder)
    assert data["layers"] == 4  # from the rows
    assert (data["model"], data["run"]) == (None, None)
    run_page(data)


def test_a_folder_with_nothing_to_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no run\.json"):
        read_content(tmp_path)
    (tmp_path / "run.json").write_text('{"name": "another program\'s"}')
    with pytest.raises(RunFolderError, match="does not describe a run"):
        read_content(tmp_path)


@pytest.mark.parametrize("session", [7, {SHAPE_KEY: {"layers": 3}}, {SHAPE_KEY: 5}, {PLANNED_KEY: ["a"]}])
def test_a_session_that_cannot_be_understood_is_left_out(session: object, folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["sessions"].append(session)
    (folder / "run.json").write_text(json.dumps(record))
    content = read_content(folder)
    assert content.damage == (f"{folder / 'run.json'}: 1 of its sessions cannot be understood",)
    assert content.shape is not None
    assert content.planned == {"ChooseAttr": 4}
    run_page(data_of(folder))


def test_an_evaluations_folder_is_told_from_a_sweeps(tmp_path: Path) -> None:
    answer = {"question_id": "a", "image_id": "i", "shown_image_id": "i", "task": "t", "question_type": None}
    with open_run(tmp_path / "run", {"seed": 0}) as run:
        run.append_answers(
            [{**answer, "answer_type": None, "gold": "red", "answer": "red", "score": 1.0, "scorer": "x"}]
        )
    with pytest.raises(RunFolderError, match="holds an evaluation"):
        read_content(tmp_path / "run")


def test_a_run_whose_every_part_is_damaged_still_has_its_record(folder: Path) -> None:
    for path in (folder / "results").glob("part-*.parquet"):
        truncate(path)
    data = data_of(folder)
    assert data["questions_answered"] == 0
    assert len(data["damage"]) == 4
    assert data["run"] is not None


def test_a_half_finished_run_is_reported_while_it_runs(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", {"seed": 0}, {"questions": {"ChooseAttr": 3}}) as run:
        run.append_part([row("a"), row("b")])
        # As left by a kill between the two files of a batch: no part of the run yet.
        write_part(part_path(tmp_path / "run", "cards", 1), table_of([], "cards"))
        data = data_of(tmp_path / "run")
    assert data["progress"] == {"finished": 2, "planned": 3}
    assert data["damage"] == []


def test_many_damaged_parts_are_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", tasks=("ChooseAttr",), questions=7)
    for place in range(6):
        truncate(part(folder, "part", place))
    damage = read_content(folder).damage
    assert len(damage) == TOLD_PARTS + 1
    assert damage[-1] == f"3 more part-*.parquet in {folder} cannot be used either"
