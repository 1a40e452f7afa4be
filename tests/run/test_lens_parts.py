"""Lens rows in a run folder: they land with their questions' result rows, and whatever happens none is there twice."""

import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.run.result_rows import CONFIGURATION, files, lens_row, python, row, skipped
from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.folder import (
    LENS_SCHEMA,
    NOT_SELECTED,
    finished_questions,
    open_run,
    read_lens,
    read_rows,
    write_lens,
)
from xmflow_jax.run.schemas import FOLDERS

OPTION = {"false_option": "blue", "false_option_prob": 0.125, "false_option_capital_prob": None}


def both(question_id: str, **changes: Any) -> tuple[list[Any], list[Any]]:
    return [row(question_id)], [
        lens_row(question_id, layer, normed=n, **changes) for layer in (1, -1) for n in (True, False)
    ]


def test_rows_come_back_sorted_and_in_exactly_the_schema(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part(*both("q2", **OPTION))
        run.append_part(*both("q1"))
    lens = read_lens(tmp_path)
    assert lens[["question_id", "layer", "normed"]].to_numpy().tolist() == [
        [question, layer, normed] for question in ("q1", "q2") for layer in (-1, 1) for normed in (False, True)
    ]
    assert list(lens.columns) == LENS_SCHEMA.names
    assert lens["false_option"].isna().tolist() == [True] * 4 + [False] * 4
    assert lens["false_option_prob"].tolist()[4:] == [0.125] * 4
    assert lens["false_option_capital_prob"].isna().all()
    assert list(lens["top_words"][0]) == ["red", "Red"]
    write_lens(tmp_path, lens)
    table = pq.read_table(tmp_path / "lens.parquet")
    assert table.schema.equals(LENS_SCHEMA)
    assert table["false_option_prob"].to_pylist() == [None] * 4 + [0.125] * 4
    pd.testing.assert_frame_equal(table.to_pandas(), lens)
    before = (tmp_path / "lens.parquet").read_bytes()
    write_lens(tmp_path, read_lens(tmp_path))
    assert (tmp_path / "lens.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        ([lens_row("q2")], "'q2'.* has lens rows but no result rows"),
        ([lens_row("q1"), lens_row("q1")], "two rows have the same task, question_id, layer, normed"),
        ([lens_row("q1", answer_prob=float("nan"))], "answer_prob of question 'q1'"),
        ([lens_row("q1", top_words=None)], "no top_words"),
        ([lens_row("q1", extra=1)], "extra"),
    ],
    ids=["another question", "twice", "not a number", "no words", "another column"],
)
def test_lens_rows_that_do_not_fit_land_nothing(tmp_path: Path, lens: list[Any], message: str) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        with pytest.raises(ValueError, match=message):
            run.append_part([row("q1")], lens)
        assert run.finished_questions() == set()
        assert not any(name.endswith(".parquet") for name in files(tmp_path))


def test_a_kill_between_the_two_parts_neither_loses_nor_doubles_a_row(tmp_path: Path) -> None:
    killed = python(
        "import pathlib; run = open_run(sys.argv[1], CONFIGURATION); run.append_part([row('q1')], [lens_row('q1')]); "
        "rename = pathlib.Path.replace; pathlib.Path.replace = lambda self, target: "
        "os.kill(os.getpid(), signal.SIGKILL) if 'part-' in target.name else rename(self, target); "
        "run.append_part([row('q2')], [lens_row('q2')])",
        tmp_path,
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "lens" / "lens-00001.parquet").exists()
    assert list(read_lens(tmp_path)["question_id"]) == list(read_rows(tmp_path)["question_id"]) == ["q1"]
    assert finished_questions(tmp_path) == {("ChooseAttr", "q1")}
    with open_run(tmp_path, CONFIGURATION) as run:
        assert run.finished_questions() == {("ChooseAttr", "q1")}
        assert files(tmp_path / "results") == ["part-00000.parquet"]
        assert files(tmp_path / "lens") == ["lens-00000.parquet"]
        # Whatever comes next takes the number: it gives the old lens rows no partner.
        run.append_skipped([skipped("q3", NOT_SELECTED)])
        run.append_part([row("q2")], [lens_row("q2")])
    assert list(read_lens(tmp_path)["question_id"]) == ["q1", "q2"]


@pytest.mark.parametrize("kind", ["part", "lens"])
def test_a_damaged_part_of_either_kind_has_its_questions_run_again(tmp_path: Path, kind: str) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q1")], [lens_row("q1")])
        run.append_part([row("q2")], [lens_row("q2")])
    whole = read_lens(tmp_path)
    damaged = tmp_path / FOLDERS[kind] / f"{kind}-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(RunFolderError, match=rf"{kind}-00001\.parquet is truncated or damaged"):
        (read_lens if kind == "lens" else read_rows)(tmp_path)
    with open_run(tmp_path, CONFIGURATION) as run:
        assert damaged.name in run.unreadable
        assert run.finished_questions() == {("ChooseAttr", "q1")}
        assert (tmp_path / "unreadable" / f"{kind}-00001.parquet.unreadable").exists()
        run.append_part([row("q2")], [lens_row("q2")])
    pd.testing.assert_frame_equal(read_lens(tmp_path), whole)
    assert list(read_rows(tmp_path)["question_id"]) == ["q1", "q2"]


def test_a_run_of_before_there_were_lens_rows_goes_on(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("q1")])
        assert read_lens(tmp_path).empty
        run.append_part([row("q2")], [lens_row("q2")])
    assert list(read_lens(tmp_path)["question_id"]) == ["q2"]
