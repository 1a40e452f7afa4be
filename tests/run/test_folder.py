"""The run folder: new, resumed, refused, in use."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run.result_rows import CONFIGURATION, files, python, row, skipped
from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.folder import (
    NOT_SELECTED,
    SET_ASIDE,
    configuration_digest,
    open_run,
    read_record,
    read_rows,
    read_skipped,
)


def test_a_new_folder_says_what_run_it_holds(tmp_path: Path) -> None:
    with open_run(tmp_path / "a" / "b", CONFIGURATION, {"jax": "0.10", "backend": "cpu"}) as run:
        record = json.loads((run.path / "run.json").read_text())
        assert (run.path / "results").is_dir()
        assert run.figures.is_dir()
    assert record["configuration"] == CONFIGURATION
    assert record["configuration_sha256"] == configuration_digest(CONFIGURATION)
    assert record["sessions"][0] | {"started": ""} == {
        "started": "",
        "finished_before": 0,
        "unreadable_parts": [],
        "jax": "0.10",
        "backend": "cpu",
    }


def test_the_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert configuration_digest({"a": 1, "b": 2}) == configuration_digest({"b": 2, "a": 1})
    assert configuration_digest({"a": 1}) != configuration_digest({"a": 1.0})
    # What sha256sum says of {"a":"\u00e9"}: a digest that drifts between versions would refuse every old folder.
    expected = "57e512a1ff02f75e939e93d2196b8d29ad3721b70ce25a601402d26410f453a2"
    assert configuration_digest({"a": "\u00e9"}) == expected


def test_resuming_remembers_finished_and_skipped_questions(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION, {"backend": "cpu"}) as run:
        run.append_part([row("q1")])
        run.append_skipped([skipped("q2", SET_ASIDE, reason="image missing"), skipped("q3", NOT_SELECTED)])
        run.append_skipped([skipped("q3", NOT_SELECTED, task="Another")])
    reordered = dict(reversed(CONFIGURATION.items()))
    with open_run(tmp_path, reordered, {"backend": "gpu"}) as run:
        done = {("ChooseAttr", "q1"), ("ChooseAttr", "q2"), ("ChooseAttr", "q3"), ("Another", "q3")}
        assert run.finished_questions() == done
        run.append_part([row("q4")])
    record = read_record(tmp_path)
    assert record is not None
    assert [session["backend"] for session in record["sessions"]] == ["cpu", "gpu"]
    assert [session["finished_before"] for session in record["sessions"]] == [0, 1]
    assert record["set_aside"] == [{"question_id": "q2", "task": "ChooseAttr", "reason": "image missing"}]
    assert record["counts"] == {
        "finished": 2,
        "set_aside": 1,
        "not_selected": {"Another": 1, "ChooseAttr": 1},
    }
    assert list(read_skipped(tmp_path)["question_id"]) == ["q3", "q2", "q3"]
    assert list(read_rows(tmp_path)["question_id"]) == ["q1", "q4"]


def test_tuples_in_a_configuration_do_not_prevent_resuming(tmp_path: Path) -> None:
    for _ in range(2):
        open_run(tmp_path, {"pathways": ("Image->Last", "Last->Last")}).close()


def test_another_configuration_is_refused_naming_what_differs(tmp_path: Path) -> None:
    open_run(tmp_path, CONFIGURATION).close()
    before = (tmp_path / "run.json").read_bytes()
    other = {"model": "shapes-tiny", "window": 3, "style": "single", "mesh": {"data": 4}, "seed": 1}
    with pytest.raises(RunFolderError) as refusal:
        open_run(tmp_path, other)
    assert str(refusal.value) == (
        f"{tmp_path} holds a run with another configuration: mesh.data is 1 there, 4 here; seed is absent there, 1 "
        'here; style is "centred" there, "single" here (and 1 more); give the same options to resume it, or a new '
        "folder"
    )
    assert (tmp_path / "run.json").read_bytes() == before


def test_long_values_are_shown_where_they_differ_and_on_one_line(tmp_path: Path) -> None:
    start = "a long prompt\n" * 20
    open_run(tmp_path, {"template": start + "{question} one word"}).close()
    with pytest.raises(RunFolderError) as refusal:
        open_run(tmp_path, {"template": start + "{question} two words"})
    message = str(refusal.value)
    assert "one word" in message
    assert "two words" in message
    assert "\n" not in message
    assert len(message) < 400


def test_an_edited_configuration_is_refused(tmp_path: Path) -> None:
    open_run(tmp_path, CONFIGURATION).close()
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"window": 9', '"window": 3'))
    with pytest.raises(RunFolderError, match="was edited"):
        open_run(tmp_path, CONFIGURATION | {"window": 3})


@pytest.mark.parametrize("content", ["", "[]", '{"configuration": 1}', '{"name": "somebody else\'s"}'])
def test_a_foreign_run_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match="does not describe a run"):
        open_run(tmp_path, CONFIGURATION)
    assert files(tmp_path) == ["run.json"]


def test_somebody_elses_results_are_not_mixed_with_ours(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.csv").touch()
    with pytest.raises(RunFolderError, match=r"no run\.json"):
        open_run(tmp_path, CONFIGURATION)
    assert files(tmp_path) == ["results/mine.csv"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.touch()
    for path in (file, file / "inner"):
        with pytest.raises(RunFolderError, match="a file is in the place of the run folder"):
            open_run(path, CONFIGURATION)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write everywhere, so a test of permissions has to be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_write_permission(tmp_path: Path, ordinary_user: None) -> None:
    for path in (Path("/"), Path("/xmflow-run")):
        with pytest.raises(RunFolderError, match=r"cannot (write in|create the run folder) .*denied"):
            open_run(path, CONFIGURATION)


def test_a_kill_loses_no_skipped_question(tmp_path: Path) -> None:
    killed = python(
        "run = open_run(sys.argv[1], CONFIGURATION); run.append_skipped([skipped('q1', SET_ASIDE)]); "
        "os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path,
    )
    killed.communicate(timeout=60)
    with open_run(tmp_path, CONFIGURATION) as run:
        assert run.finished_questions() == {("ChooseAttr", "q1")}
        record = read_record(tmp_path)
    assert record is not None
    assert record["set_aside"] == [{"question_id": "q1", "task": "ChooseAttr", "reason": "why"}]


def test_a_second_run_is_refused_until_the_first_ends_or_dies(tmp_path: Path) -> None:
    first = python("run = open_run(sys.argv[1], CONFIGURATION); print('open', flush=True); time.sleep(60)", tmp_path)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(RunFolderError, match=rf"in use by a running process \(process {first.pid}\)"):
            open_run(tmp_path, CONFIGURATION)
        assert len(read_rows(tmp_path)) == 0  # reading needs no lock
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while True:
        try:
            open_run(tmp_path, CONFIGURATION).close()
            break
        except RunFolderError:  # the kernel may still be clearing the process away
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_one_process_cannot_open_a_folder_twice_either(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        with pytest.raises(RunFolderError, match="in use"):
            open_run(tmp_path, CONFIGURATION)
        run.append_part([row("q1")])  # the refused attempt did not take the lock away
    with pytest.raises(ValueError, match="closed"):
        run.append_part([row("q2")])
