"""Rows on disk: their layout, and what kills and damage leave of them."""

import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.run.result_rows import CONFIGURATION, files, python, row, skipped
from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.folder import (
    NOT_SELECTED,
    ROW_SCHEMA,
    open_run,
    read_record,
    read_rows,
    write_atomically,
)


def test_rows_come_back_sorted_and_in_exactly_the_schema(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q2", layer) for layer in (10, 2)])
        run.append_part([row("q1"), row("q1", task="Another"), row("q1", pathway="A->B")])
        assert run.finished_questions() == {("ChooseAttr", "q1"), ("ChooseAttr", "q2"), ("Another", "q1")}
        rows = run.read_rows()
    keys = rows[["task", "question_id", "pathway", "layer"]].to_numpy().tolist()
    assert keys == [
        ["Another", "q1", "Image->Question", 0],
        ["ChooseAttr", "q1", "A->B", 0],
        ["ChooseAttr", "q1", "Image->Question", 0],
        ["ChooseAttr", "q2", "Image->Question", 2],  # by number, not as text
        ["ChooseAttr", "q2", "Image->Question", 10],
    ]
    assert list(rows.columns) == ROW_SCHEMA.names
    assert pq.read_schema(tmp_path / "results" / "part-00000.parquet").equals(ROW_SCHEMA)
    assert rows.dtypes.astype(str).to_dict() == read_rows(tmp_path / "nowhere").dtypes.astype(str).to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "extra"),
        ({"gold": None}, "no gold"),
        ({"knockout_prob": float("nan")}, "knockout_prob of question 'q1'"),
        ({"relative_change": float("nan")}, "relative_change of question 'q1'"),
        ({"relative_change": float("-inf")}, "relative_change of question 'q1'"),
    ],
)
def test_a_row_that_does_not_fit_lands_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        with pytest.raises(ValueError, match=message):
            run.append_part([row("q0"), row("q1", **changes)])
        with pytest.raises(ValueError, match="window"):
            run.append_part([{name: value for name, value in row("q0").items() if name != "window"}])
        assert run.finished_questions() == set()
        assert files(tmp_path / "results") == []


def test_an_undefined_relative_change_is_kept_where_the_base_probability_is_zero(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q1", base_prob=0.0, relative_change=float("nan"))])
        assert run.read_rows()["relative_change"].isna().all()


def test_no_question_is_counted_twice(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q1")])
        run.append_skipped([skipped("q2", NOT_SELECTED)])
        for again in ("q1", "q2"):
            with pytest.raises(ValueError, match="finished before"):
                run.append_part([row(again, layer=1)])
        with pytest.raises(ValueError, match="the same task, question_id, kind, mode, pathway"):
            run.append_part([row("q3"), row("q3")])
        with pytest.raises(ValueError, match="'maybe'"):
            run.append_skipped([skipped("q4", "maybe")])
        run.append_part([])
    results = tmp_path / "results"
    assert files(results) == ["part-00000.parquet"]
    assert files(tmp_path / "skipped") == ["skipped-00000.parquet"]
    (results / "part-00007.parquet").write_bytes((results / "part-00000.parquet").read_bytes())
    with pytest.raises(RunFolderError, match=r"1 rows twice.*ChooseAttr, q1"):
        read_rows(tmp_path)


def test_a_failed_write_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").mkdir()  # cannot be replaced by a file
    with pytest.raises(RunFolderError, match=r"cannot write .*summary\.csv"):
        write_atomically(tmp_path / "summary.csv", b"text")
    assert files(tmp_path) == []


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_before_the_rename_lands_nothing_and_loses_nothing(tmp_path: Path, moment: str) -> None:
    killed = python(
        "import pathlib; run = open_run(sys.argv[1], CONFIGURATION); run.append_part([row('q1')]); "
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "run.append_part([row('q2', 0), row('q2', 1)])",
        tmp_path,
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / ".part-00001.parquet.xmflow-partial").exists()
    assert list(read_rows(tmp_path)["question_id"]) == ["q1"]
    with open_run(tmp_path, CONFIGURATION) as run:
        assert run.finished_questions() == {("ChooseAttr", "q1")}
        assert files(tmp_path) == [".lock", "results/part-00000.parquet", "run.json"]
        run.append_part([row("q2", 0), row("q2", 1)])
    assert list(read_rows(tmp_path)["question_id"]) == ["q1", "q2", "q2"]


def damaged(data: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "truncated":
        return data[: len(data) // 2]
    # One flipped bit inside a page: it still decodes, to another answer.
    place = data.index(b"blue")
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("how", ["empty", "truncated", "flipped"])
def test_a_damaged_part_is_never_counted(tmp_path: Path, how: str) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q1")])
        run.append_part([row("q2")])
    part = tmp_path / "results" / "part-00001.parquet"
    content = damaged(part.read_bytes(), how)
    part.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"part-00001\.parquet is truncated or damaged"):
        read_rows(tmp_path)
    with open_run(tmp_path, CONFIGURATION) as run:
        assert run.unreadable == ("part-00001.parquet",)
        assert run.finished_questions() == {("ChooseAttr", "q1")}
        run.append_part([row("q2")])
    kept = tmp_path / "unreadable" / "part-00001.parquet.unreadable"
    assert kept.read_bytes() == content
    assert list(read_rows(tmp_path)["question_id"]) == ["q1", "q2"]
    record = read_record(tmp_path)
    assert record is not None
    assert record["sessions"][1]["unreadable_parts"] == ["part-00001.parquet"]


@pytest.mark.parametrize("lacking", [["gold"], ["kind", "mode"]], ids=" ".join)
def test_a_part_of_another_layout_is_refused_and_kept(tmp_path: Path, lacking: list[str]) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q1")])
    part = tmp_path / "results" / "part-00000.parquet"
    pq.write_table(pq.ParquetFile(part).read().drop_columns(lacking), part)
    with pytest.raises(RunFolderError, match="another version.*" + ".*".join(lacking)):
        open_run(tmp_path, CONFIGURATION)
    assert part.exists()
    part.unlink()
    open_run(tmp_path, CONFIGURATION).close()  # the refusal released the lock
