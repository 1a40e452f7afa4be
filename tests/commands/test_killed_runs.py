"""Runs that die or are interrupted: what was finished stays, and what they leave resumes to the very same rows.

Real processes, real signals. The moments are random but seeded, and printed.
"""

import shlex
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.commands.killed_run import (
    TEMPORARY,
    Study,
    assert_same_run,
    assert_some_rows,
    kill,
    parts,
    start,
    wait_until,
    whole_rows,
    write_study,
)
from tests.families.llava_next.next_files import write_next_model
from xmflow_jax.run.folder import open_run, read_record, read_skipped

SEED = 3


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to, and the seconds that it took to open its folder (0: not measured)."""

    study: Study
    out: Path
    opening: float = 0


@pytest.fixture(name="undisturbed", scope="module")
def fixture_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A study of one task, nine questions with rows and one set aside."""
    study = write_study(tmp_path_factory.mktemp("study"), ["QueryAttr"], per_task=10, batch_size=1)
    study.finish(study.folder / "undisturbed")
    return Undisturbed(study, study.folder / "undisturbed")


@pytest.mark.slow
def test_two_kills_lose_and_repeat_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Once in mid-work and once in mid-write."""
    study, out, rng = undisturbed.study, tmp_path / "out", np.random.default_rng(SEED)
    expected = whole_rows(undisturbed.out)
    process = study.start(out)
    wait_until(lambda: len(parts(out)) >= 2, process)
    time.sleep(delay := rng.uniform(0, 0.05))
    assert kill(process) == -signal.SIGKILL
    print(f"killed {delay:.3f} s after the second part, with {len(parts(out))} parts")
    assert_some_rows(out, expected)
    process = study.start(out)
    wait_until(lambda: list(out.glob(TEMPORARY)), process)
    assert kill(process) == -signal.SIGKILL
    print(f"killed while it wrote, with {len(parts(out))} parts")
    assert_some_rows(out, expected)
    study.finish(out)
    assert_same_run(out, undisturbed.out)
    assert list(read_skipped(out)["question_id"]) == list(read_skipped(undisturbed.out)["question_id"])


def test_a_second_run_on_the_folder_is_refused_until_the_first_is_killed(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    study, out = undisturbed.study, tmp_path / "out"
    first = study.start(out)
    try:
        wait_until(lambda: parts(out), first)
        first.send_signal(signal.SIGSTOP)  # so that it is still in mid-work when the second one comes to the folder
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        second = study.start(out)
        _, error = second.communicate(timeout=240)
        assert second.returncode == 2, error
        assert error == (
            f"error: {out} is in use by a running process (process {first.pid}); wait for it or give another folder\n"
        )
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    finally:
        assert kill(first) == -signal.SIGKILL
    record = read_record(out)
    assert record is not None
    with open_run(out, record["configuration"]) as run:
        assert 0 < len(run.finished_questions()) < 10


def test_an_interrupted_run_names_the_command_that_finishes_it(undisturbed: Undisturbed, tmp_path: Path) -> None:
    study, out = undisturbed.study, tmp_path / "out of the way; it's here"
    process = study.start(out)
    wait_until(lambda: parts(out), process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    last = error.splitlines()[-1]
    assert last.startswith("interrupted; what was finished is kept")
    assert 0 < len(parts(out)) < 9
    assert_some_rows(out, whole_rows(undisturbed.out))
    assert not list(out.rglob(TEMPORARY))
    again = start(shlex.split(last.rpartition(" from there: ")[2]), study)
    _, error = again.communicate(timeout=240)
    assert again.returncode == 0, error
    assert_same_run(out, undisturbed.out)


@pytest.fixture(name="long", scope="module")
def fixture_long(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A study of three tasks, 48 batches of two, timed once its programs are compiled."""
    tasks = ["ChooseAttr", "QueryAttr", "CompareAttr"]
    study = write_study(tmp_path_factory.mktemp("long"), tasks, per_task=32, batch_size=2)
    study.finish(study.folder / "first")
    out, began = study.folder / "undisturbed", time.time()
    study.finish(out)
    assert_same_run(out, study.folder / "first")
    return Undisturbed(study, out, (out / ".lock").stat().st_mtime - began)


START, COMPUTE, WRITE, REPORT = "in start-up", "computing", "writing a part", "reporting"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_twenty_kills_lose_and_repeat_nothing(long: Undisturbed, tmp_path: Path) -> None:
    """Delays are random; what they are counted from is seen in the folder, however fast the machine is."""
    study, out, rng = long.study, tmp_path / "out", np.random.default_rng(SEED)
    expected, total = whole_rows(long.out), len(parts(long.out))
    stages = [str(stage) for stage in rng.permutation([START] * 5 + [COMPUTE] * 6 + [WRITE] * 5)] + [REPORT] * 4
    print(f"seed {SEED}: {total} parts, {long.opening:.1f} s to open the folder")
    landed, half_written = [], 0
    for number, stage in enumerate(stages, start=1):
        before, more = len(parts(out)), int(rng.integers(1, 4))
        delay = rng.uniform(0, {START: long.opening, COMPUTE: 0.1, WRITE: 0.0, REPORT: 0.5}[stage])
        began = time.time()
        process = study.start(out)
        if stage == START:
            wait_until(lambda due=began + delay, had=before: time.time() > due or len(parts(out)) > had, process)
        elif stage in (COMPUTE, WRITE):
            wait_until(lambda wanted=before + more: len(parts(out)) >= wanted, process)
        if stage == COMPUTE:
            time.sleep(delay)
        elif stage == WRITE:
            wait_until(lambda: list(out.glob(f".part-{TEMPORARY}")), process)
        elif stage == REPORT:
            named = str(rng.choice(["run.json", "summary.csv", "recommendation.json", "figures/QueryAttr.png"]))
            wait_until(lambda: len(parts(out)) == total, process)
            wait_until(lambda name=named, since=began: written_since(out / name, since), process)
            time.sleep(delay)
        assert kill(process) == -signal.SIGKILL, f"kill {number} came too late"
        partial = len(list(out.rglob(TEMPORARY)))
        landed.append(len(parts(out)))
        half_written += partial
        print(f"kill {number:2}, {stage}, delay {delay:.3f} s: {landed[-1]} parts, {partial} half-written files")
        assert_some_rows(out, expected)
    assert len({count for count in landed if 0 < count < total}) >= 8  # it was hit in mid-work, again and again
    assert half_written > 0
    study.finish(out)
    assert_same_run(out, long.out)
    assert list(read_skipped(out)["question_id"]) == list(read_skipped(long.out)["question_id"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_where_images_differ_in_size(tmp_path: Path) -> None:
    """A LLaVA-NeXT, whose batches hold images of different numbers of tiles."""
    study = write_study(
        tmp_path / "study", ["QueryAttr", "CompareAttr"], 24, batch_size=2, write_model=write_next_model
    )
    undisturbed, out, rng = study.folder / "undisturbed", tmp_path / "out", np.random.default_rng(SEED)
    study.finish(undisturbed)
    expected, total = whole_rows(undisturbed), len(parts(undisturbed))
    assert total >= 20
    for number in range(10):
        wanted, delay = min(len(parts(out)) + int(rng.integers(1, 3)), total), rng.uniform(0, 0.1)
        process = study.start(out)
        wait_until(lambda wanted=wanted: len(parts(out)) >= wanted, process)
        time.sleep(delay)
        assert kill(process) == -signal.SIGKILL
        print(f"kill {number + 1}: {len(parts(out))} of {total} parts")
        assert_some_rows(out, expected)
    study.finish(out)
    assert_same_run(out, undisturbed)


def written_since(path: Path, moment: float) -> bool:
    return path.exists() and path.stat().st_mtime > moment


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ctrl_c_ends_cleanly_at_any_moment(long: Undisturbed, tmp_path: Path) -> None:
    """While it imports, compiles and computes; JAX's callbacks at garbage collections swallow none of them."""
    study, out, rng = long.study, tmp_path / "out", np.random.default_rng(SEED)
    for number in range(12):
        before, delay = len(parts(out)), rng.uniform(2, max(3, long.opening + 1))
        due = time.time() + delay
        process = study.start(out)
        wait_until(lambda due=due, had=before: time.time() > due or len(parts(out)) > had + 2, process)
        process.send_signal(signal.SIGINT)
        try:
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        print(f"Ctrl-C {number + 1} after {delay:.3f} s: {len(parts(out))} parts")
        assert process.returncode == 130, error
        assert "Traceback" not in error, error
        assert error.splitlines()[-1].startswith("interrupted; what was finished is kept")
        assert not list(out.rglob(TEMPORARY))
    study.finish(out)
    assert_same_run(out, long.out)
