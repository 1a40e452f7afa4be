"""One kind of table a folder: whatever reads a folder's Parquet files gets that kind and nothing else."""

import signal
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.report.written_run import card
from tests.run.result_rows import CONFIGURATION, files, lens_row, python, row, skipped
from xmflow_jax.run import growing
from xmflow_jax.run.folder import (
    NOT_SELECTED,
    SET_ASIDE,
    finished_questions,
    open_run,
    read_cards,
    read_lens,
    read_rows,
    read_skipped,
)
from xmflow_jax.run.parts import OLD_PLACE, PLACES, TEMPORARY, part_paths
from xmflow_jax.run.schemas import FOLDERS, SCHEMAS

TASK = "ChooseAttr"
READERS = {"part": read_rows, "lens": read_lens, "cards": read_cards, "skipped": read_skipped}


def write_run(folder: Path) -> None:
    """Three questions with rows, one of them landed alone, and two without."""
    with open_run(folder, CONFIGURATION) as run:
        run.append_part([row("q1"), row("q2", 3)], [lens_row("q1")], [card("q2", TASK)])
        run.append_skipped([skipped("q3", SET_ASIDE)])
        run.append_part([row("q4")], [lens_row("q4")])
        run.append_skipped([skipped("q5", NOT_SELECTED)])


def as_before(folder: Path) -> None:
    """Makes a run folder one of 0.1.0, in which parts of all kinds lay in `results`."""
    for place in set(PLACES) - {OLD_PLACE}:
        for path in (folder / place).glob("*"):
            path.rename(folder / OLD_PLACE / path.name)
        if (folder / place).is_dir():
            (folder / place).rmdir()


def tables(folder: Path) -> dict[str, list[str]]:
    """What the program's own readers give, as text: cards hold arrays, which have no equality of their own."""
    return {kind: read(folder).map(repr).to_csv() for kind, read in READERS.items()}


@pytest.mark.parametrize("kind", READERS)
def test_the_obvious_call_gives_one_kind_of_table(tmp_path: Path, kind: str) -> None:
    write_run(tmp_path)
    # As a killed run leaves it, with a part half written: some readers refuse a folder with anything else in it.
    killed = python(
        "import pathlib; run = open_run(sys.argv[1], CONFIGURATION); pathlib.Path.replace = lambda *_: os._exit(9); "
        "write = run.append_skipped if sys.argv[2] == 'skipped' else run.append_part; "
        "row = skipped('q9', SET_ASIDE) if sys.argv[2] == 'skipped' else row('q9'); write([row])",
        tmp_path,
        kind,
    )
    killed.communicate(timeout=120)
    assert killed.returncode == 9
    assert list(tmp_path.glob(f"*{TEMPORARY}"))
    assert not [path.name for path in (tmp_path / FOLDERS[kind]).iterdir() if path.suffix != ".parquet"]
    read = pd.read_parquet(tmp_path / FOLDERS[kind])
    assert list(read.columns) == SCHEMAS[kind].names
    expected = READERS[kind](tmp_path)
    assert len(read) == len(expected) == 2 + (kind == "part") - (kind == "cards")
    assert set(read["question_id"]) == set(expected["question_id"])
    assert {path.name.partition("-")[0] for path in (tmp_path / FOLDERS[kind]).glob("*.parquet")} == {kind}
    by_name = pq.read_table([str(path) for path in (tmp_path / FOLDERS[kind]).glob("*.parquet")])
    assert by_name.num_rows == len(expected)


def test_the_obvious_call_gives_an_evaluations_answers(tmp_path: Path) -> None:
    answer = dict.fromkeys(SCHEMAS["answers"].names, "red") | {"score": 1.0, "task": TASK}
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_answers([{**answer, "question_id": "q1"}])
        run.append_skipped([skipped("q2", SET_ASIDE)])
        run.append_answers([{**answer, "question_id": "q3"}])
    assert list(pd.read_parquet(tmp_path / "results")["question_id"]) == ["q1", "q3"]


def test_a_damaged_part_is_where_no_reader_comes_across_it(tmp_path: Path) -> None:
    write_run(tmp_path)
    for part in ("results/part-00000.parquet", "skipped/skipped-00000.parquet"):
        (tmp_path / part).write_bytes((tmp_path / part).read_bytes()[:99])
    with open_run(tmp_path, CONFIGURATION) as run:
        assert set(run.unreadable) == {"part-00000.parquet", "skipped-00000.parquet"}
        assert files(tmp_path / "unreadable") == [f"{name}.unreadable" for name in sorted(run.unreadable)]
        assert list(pd.read_parquet(tmp_path / "results")["question_id"]) == ["q4"]
        # The numbers of what may be rescued are not given again.
        run.append_skipped([skipped("q3", SET_ASIDE)])
        run.append_part([row("q1")])
    assert files(tmp_path / "skipped") == ["skipped-00001.parquet"]
    assert files(tmp_path / "results") == ["part-00001.parquet", "part-00002.parquet"]


def test_questions_without_rows_need_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "MOST_ROWS", 10)
    names = [f"q{number:02d}" for number in range(25)]
    with open_run(tmp_path, CONFIGURATION) as run:
        for name in names[:13]:
            run.append_skipped([skipped(name, NOT_SELECTED)])
            assert len(read_skipped(tmp_path)) == len(run.finished_questions())
    assert files(tmp_path / "skipped") == ["skipped-00000.parquet", "skipped-00001.parquet"]
    with open_run(tmp_path, CONFIGURATION) as run:  # which goes on with the second one
        for name in names[13:]:
            run.append_skipped([skipped(name, NOT_SELECTED)])
    assert [pq.read_metadata(path).num_rows for path in part_paths(tmp_path, "skipped")] == [10, 10, 5]
    assert list(read_skipped(tmp_path)["question_id"]) == names


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_while_a_part_grows_leaves_what_it_held(tmp_path: Path, moment: str) -> None:
    killed = python(
        "import pathlib; run = open_run(sys.argv[1], CONFIGURATION); run.append_skipped([skipped('q1', SET_ASIDE)]); "
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL); run.append_skipped([skipped('q2', SET_ASIDE)])",
        tmp_path,
    )
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert finished_questions(tmp_path) == {(TASK, "q1")}
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_skipped([skipped("q2", SET_ASIDE)])
    assert files(tmp_path / "skipped") == ["skipped-00000.parquet"]
    assert list(read_skipped(tmp_path)["question_id"]) == ["q1", "q2"]


def test_a_folder_of_before_is_read_as_it_is_and_put_in_order_when_it_is_resumed(tmp_path: Path) -> None:
    write_run(tmp_path)
    expected, done = tables(tmp_path), finished_questions(tmp_path)
    as_before(tmp_path)
    before = files(tmp_path)
    assert [name for name in before if name.startswith("results/lens-")]
    assert tables(tmp_path) == expected
    assert finished_questions(tmp_path) == done
    assert files(tmp_path) == before  # reading moves nothing
    with open_run(tmp_path, CONFIGURATION) as run:
        assert run.finished_questions() == done
        run.append_skipped([skipped("q6", SET_ASIDE)])
    assert {path.parent.name for kind in SCHEMAS for path in part_paths(tmp_path, kind)} == {
        "results",
        "lens",
        "cards",
        "skipped",
    }
    assert list(pd.read_parquet(tmp_path / "results")["question_id"]) == ["q1", "q2", "q4"]
    assert list(read_skipped(tmp_path)["question_id"]) == ["q3", "q5", "q6"]


def test_a_kill_while_a_folder_of_before_is_put_in_order_loses_nothing(tmp_path: Path) -> None:
    write_run(tmp_path)
    expected = tables(tmp_path)
    as_before(tmp_path)
    killed = python(
        "import pathlib; rename, moved = pathlib.Path.rename, []; pathlib.Path.rename = lambda self, target: "
        "(moved.append(rename(self, target)), len(moved) == 2 and os.kill(os.getpid(), signal.SIGKILL)); "
        "open_run(sys.argv[1], CONFIGURATION)",
        tmp_path,
    )
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert tables(tmp_path) == expected
    open_run(tmp_path, CONFIGURATION).close()
    assert tables(tmp_path) == expected
