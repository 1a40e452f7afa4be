"""Sweeps by several processes on one machine: merged rows, lost processes, and what the options must say."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands.killed_run import ROOT, Study, write_study
from tests.run.result_rows import CONFIGURATION, row, skipped
from xmflow_jax.errors import OptionError, RunFolderError
from xmflow_jax.machine.processes import Processes, check_process_options
from xmflow_jax.run.folder import SET_ASIDE, open_run, read_rows, read_skipped
from xmflow_jax.run.sharing import FOLDER, adopt, folder_of, take_over

EXACT = ["task", "question_id", "pathway", "style", "layer", "window", "control", "gold", "base_answer"]
EXACT += ["knockout_answer", "base_token", "knockout_token", "base_score", "knockout_score"]


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ((False, None, "host:1", None, None), "--coordinator goes with --distributed"),
        ((False, None, None, None, 0), "--process goes with --distributed"),
        ((True, None, "host:1", 2, None), "--coordinator and --processes without --process"),
        ((True, "auto", None, None, None), "--mesh auto is for one process"),
        ((True, None, "host:1", 0, 0), "--processes 0 is not 1 or more"),
        ((True, None, "host:1", 2, 2), "--process 2 is not one of 0 to 1"),
    ],
)
def test_what_the_options_must_say(
    told: tuple[bool, str | None, str | None, int | None, int | None], named: str
) -> None:
    with pytest.raises(OptionError, match=named):
        check_process_options(*told)
    check_process_options(True, "data=2,model=2", "host:1", 2, 1)
    check_process_options(True, None, None, None, None)


def test_groups() -> None:
    alone = Processes()
    assert (alone.first, alone.writes, list(alone.writers)) == (True, True, [])
    in_step = [Processes(index, 6, 2) for index in range(6)]
    assert [one.writes for one in in_step] == [True, False] * 3
    assert [one.first for one in in_step] == [True] + [False] * 5
    assert list(in_step[0].writers) == [2, 4]
    assert [list(one.group) for one in in_step[2:4]] == [[2, 3]] * 2


def test_every_question_is_one_groups_and_processes_in_step_have_the_same() -> None:
    in_step = [Processes(index, 6, 2) for index in range(6)]
    assert [one.own_share("abcdefg") for one in in_step] == ["adg", "adg", "be", "be", "cf", "cf"]
    assert Processes().own_share("abc") == "abc"


def test_rows_left_beside_the_results_are_taken_over_once(tmp_path: Path) -> None:
    """Also those that lie in both, because a kill came between landing them here and removing them there."""
    other = folder_of(tmp_path / "run", 3)
    with open_run(tmp_path / "run", CONFIGURATION) as run:
        run.append_part([row("a"), row("a", layer=1)])
        (tmp_path / "run" / FOLDER).mkdir()
        with open_run(other, CONFIGURATION) as left:
            left.append_part([row("a"), row("a", layer=1)])
            left.append_part([row("b"), row("c")])
            left.append_skipped([skipped("d", SET_ASIDE)])
            with pytest.raises(RunFolderError, match="in use by a running process"):
                adopt(run, other)
        take_over(run)
        assert run.finished_questions() == {("ChooseAttr", name) for name in "abcd"}
    assert not (tmp_path / "run" / FOLDER).exists()
    assert read_rows(tmp_path / "run")["question_id"].tolist() == ["a", "a", "b", "c"]
    assert read_skipped(tmp_path / "run")["question_id"].tolist() == ["d"]
    with open_run(tmp_path / "run", CONFIGURATION) as again:
        assert len(again.finished_questions()) == 4


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_all(study: Study, out: Path, count: int, *more: str) -> list[subprocess.Popen[str]]:
    port = free_port()
    told = ("--distributed", "--coordinator", f"127.0.0.1:{port}", "--processes", str(count), *more)
    return [
        subprocess.Popen(
            [*study.command(out), *told, "--process", str(index)],
            cwd=ROOT,
            env=study.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def finish_all(processes: Sequence[subprocess.Popen[str]], seconds: float = 300) -> list[tuple[int, str, str]]:
    deadline = time.monotonic() + seconds
    ended = []
    try:
        for process in processes:
            printed, error = process.communicate(timeout=max(1, deadline - time.monotonic()))
            ended.append((process.returncode, printed, error))
    finally:
        for process in processes:
            process.kill()
    return ended


@pytest.fixture(name="study", scope="module")
def fixture_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Seven questions of two tasks, one of them without its image: neither two nor four processes share them evenly."""
    return write_study(tmp_path_factory.mktemp("processes"), ["ChooseAttr", "CompareAttr"], per_task=4, batch_size=2)


@pytest.fixture(name="alone", scope="module")
def fixture_alone(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    study.finish(out)
    return out


def check_equal(out: Path, alone: Path) -> None:
    rows, expected = read_rows(out), read_rows(alone)
    pd.testing.assert_frame_equal(rows[EXACT], expected[EXACT])
    for column in ("base_prob", "knockout_prob"):
        np.testing.assert_allclose(rows[column], expected[column], rtol=0, atol=1e-5)
    pd.testing.assert_frame_equal(read_skipped(out), read_skipped(alone))
    assert not (out / FOLDER).exists()
    assert (out / "summary.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mesh"), [(2, ()), (4, ()), (2, ("--mesh", "model=2"))])
def test_merged_rows_are_those_of_one_process(
    study: Study, alone: Path, tmp_path: Path, count: int, mesh: tuple[str, ...]
) -> None:
    ended = finish_all(start_all(study, tmp_path / "run", count, *mesh))
    assert [code for code, _, _ in ended] == [0] * count, ended
    assert "questions in the results" in ended[0][1]
    # The others keep silent (of JAX's own libraries some do not).
    assert all("questions" not in printed for _, printed, _ in ended[1:])
    check_equal(tmp_path / "run", alone)


@pytest.mark.slow
def test_a_lost_process_is_told_and_the_same_command_goes_on(study: Study, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    processes = start_all(study, out, 2)
    other = folder_of(out, 1) / "results"
    deadline = time.monotonic() + 200
    while not list(other.glob("part-*.parquet")):
        assert time.monotonic() < deadline
        assert processes[1].poll() is None
        time.sleep(0.02)
    os.kill(processes[1].pid, signal.SIGKILL)
    (code, _, error), _ = finish_all(processes)
    assert code == 1, error
    assert "1 of 2 processes ended before their questions were answered (process 1)" in error
    assert "the same command goes on" in error
    assert "Traceback" not in error
    assert 0 < len(read_rows(out)) < len(read_rows(alone))
    ended = finish_all(start_all(study, out, 2))
    assert [code for code, _, _ in ended] == [0, 0], ended
    check_equal(out, alone)


@pytest.mark.slow
def test_no_cluster_is_one_clear_line(study: Study, tmp_path: Path) -> None:
    command = [*study.command(tmp_path / "run"), "--distributed"]
    done = subprocess.run(
        command, cwd=ROOT, env=study.environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "--coordinator HOST:PORT, --processes N and --process I" in done.stderr
    assert "Traceback" not in done.stderr
