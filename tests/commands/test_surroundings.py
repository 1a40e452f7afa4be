"""Commands where a notebook, a cluster's container or an old terminal is around them: real processes.

One report in all of it at once belongs to the quick tests. The other commands, and each of these alone, are slow.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests.commands.killed_run import (
    ROOT,
    Study,
    assert_same_run,
    assert_some_rows,
    parts,
    wait_until,
    whole_rows,
    write_study,
)
from tests.report.written_run import write_run
from xmflow_jax.report.__main__ import main as report

# A folder's name that some people have, and the rest of us have bad luck with.
ODD = "caf\udce9 \u8d64 a'b\"$(c)\n*-x"

NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LANG": "C", "LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]
HOMES = [
    {"HOME": "/dev/null", "MPLCONFIGDIR": "/dev/null/matplotlib", "XDG_CACHE_HOME": ""},
    {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/dev/null/caches", "JAX_COMPILATION_CACHE_DIR": "/dev/null/programs"},
]
SURROUNDINGS = [NOTEBOOK, {"MPLBACKEND": "nonsense"}, *ENCODINGS, *HOMES]


def named(one: dict[str, str]) -> str:
    return "+".join(f"{name}={value}".replace("/", "") for name, value in one.items())


def run(
    command: str, arguments: Sequence[object], around: dict[str, str], own: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """`python -m xmflow_jax.COMMAND` with these settings of the environment beside the process's own."""
    environment = os.environ if own is None else own
    plain = {name: value for name, value in environment.items() if own or not name.startswith(("JAX_", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-m", f"xmflow_jax.{command}", *map(str, arguments)],
        env={**plain, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **around},
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=300,
    )


def assert_done(done: "subprocess.CompletedProcess[bytes]") -> str:
    """Exit code 0 and no traceback; returns what was printed."""
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    return done.stdout.decode(errors="replace")


def test_a_report_in_all_of_it_at_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / ODD, tasks=("ChooseAttr",), questions=2, layers=2)
    around = {**NOTEBOOK, **ENCODINGS[0], **HOMES[0]}
    printed = assert_done(run("report", [folder], around))
    printed.encode("ascii")
    assert "?" in printed  # the folder's name, and the arrows
    assert {"report.html", "summary.csv", "recommendation.json"} <= {path.name for path in folder.iterdir()}
    assert len(list((folder / "figures").glob("*.png"))) == len(list((folder / "figures").glob("*.pdf"))) > 4
    page = (folder / "report.html").read_text(encoding="utf-8")  # the name is in it, and it is UTF-8
    assert "caf\ufffd \u8d64" in page


def test_a_report_that_finds_no_room_says_so_and_leaves_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", tasks=("ChooseAttr",), questions=2, layers=2)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in ("report.html", "summary.csv"):  # at its end and at its beginning
        partial = folder / f".{name}.xmflow-partial"
        partial.symlink_to("/dev/full")  # on which every write fails
        assert report([str(folder)]) == 2
        assert capsys.readouterr().err == f"error: cannot write {folder}/{name}: No space left on device\n"
        assert {path: path.read_bytes() for path in before} == before
        assert not list(folder.rglob("*.xmflow-partial"))


def study_of(folder: Path) -> Study:
    return write_study(folder, ["QueryAttr"], per_task=3, batch_size=1)


@pytest.fixture(name="study", scope="module")
def fixture_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two questions with rows and one set aside; `undisturbed` is its run where nothing is odd."""
    study = study_of(tmp_path_factory.mktemp("study"))
    study.finish(study.folder / "undisturbed")
    return study


@pytest.mark.slow
@pytest.mark.parametrize("around", SURROUNDINGS, ids=named)
def test_a_sweep_in_any_of_it_gives_the_same_run(study: Study, around: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / ODD
    printed = assert_done(run("sweep", [*study.arguments, "--out", out], around, study.environment))
    assert "2 questions in the results" in printed
    assert_same_run(out, study.folder / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("around", SURROUNDINGS, ids=named)
def test_the_other_commands_in_any_of_it(study: Study, around: dict[str, str], tmp_path: Path) -> None:
    inputs, own = study.arguments[: study.arguments.index("--select")], study.environment
    out = tmp_path / ODD
    assert "accuracy" in assert_done(run("evaluate", [*inputs, "--out", out], around, own))
    shown = assert_done(run("sweep", [*study.arguments, "--preview", 2, "--out", tmp_path / "seen"], around, own))
    assert "Question" in shown
    assert "knockouts to run" in assert_done(
        run("sweep", [*study.arguments, "--dry-run", "--out", out / "n"], around, own)
    )
    model = study.arguments[study.arguments.index("--model") + 1]
    assert_done(run("convert", [model, tmp_path / f"{ODD} converted"], around, own))
    refused = run("prepare", ["vqa_v2", "--manual-dir", tmp_path / f"{ODD}none"], around, own)
    assert (refused.returncode, refused.stderr.count(b"\n"), b"Traceback" in refused.stderr) == (2, 1, False)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["cuda", "gpu", "nonsense", "rocm"])
def test_every_command_that_computes_says_which_platforms_are_here(study: Study, asked: str, tmp_path: Path) -> None:
    if asked in ("cuda", "gpu") and Path("/dev/nvidiactl").exists():
        asked = "tpu"  # a machine that has the one lacks the other
    model = study.arguments[study.arguments.index("--model") + 1]
    inputs = study.arguments[: study.arguments.index("--select")]
    for command, arguments in (
        ("sweep", [*study.arguments, "--out", tmp_path / "out"]),
        ("sweep", [*study.arguments, "--dry-run", "--mesh", "data=1", "--out", tmp_path / "out"]),
        ("evaluate", [*inputs, "--out", tmp_path / "out"]),
        ("convert", [model, tmp_path / "converted"]),
    ):
        done = run(command, arguments, {"JAX_PLATFORMS": asked}, study.environment)
        assert done.returncode == 2
        assert done.stderr.decode().startswith(f"error: JAX_PLATFORMS asks for {asked}; here are: cpu")
        assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_question_files_and_images_of_odd_names(tmp_path: Path) -> None:
    plain = study_of(tmp_path / ODD)
    file = Path(plain.arguments[plain.arguments.index("--data") + 1])
    file = file.rename(file.with_name(f"-{ODD}" + "y" * 150 + ".csv"))
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    images = Path(plain.arguments[plain.arguments.index("--images") + 1])
    (images / f"{table['img_id'][0]}.jpg").rename(images / "\u8d64 a'b\"(c)*.jpg")
    table.loc[0, "img_id"] = "\u8d64 a'b\"(c)*"
    table.to_csv(file, index=False)
    words = ["--model", plain.arguments[1], "--data", file, "--images", images, "--select", "all", "--no-self-check"]
    out = tmp_path / ("z" * 255)
    printed = assert_done(run("sweep", [*words, "--pathways", "Image->Last", "--out", out], {}, plain.environment))
    assert "2 questions in the results" in printed
    assert "caf\ufffd" in pd.read_parquet(out / "results")["task"].iloc[0]
    assert_done(run("report", [out], {}, plain.environment))


@pytest.mark.slow
@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")], ids=" ".join)
def test_a_sweep_ends_well_where_nobody_listens_any_more(study: Study, closed: tuple[str, ...], tmp_path: Path) -> None:
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    process = subprocess.Popen(
        study.command(tmp_path / "out"),
        cwd=ROOT,
        env=study.environment,
        **{name: subprocess.PIPE if name in closed else subprocess.DEVNULL for name in streams},
    )
    for name in closed:
        getattr(process, name).close()
    assert process.wait(timeout=300) == 0
    assert_same_run(tmp_path / "out", study.folder / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_goes_on_later(tmp_path: Path, number: signal.Signals) -> None:
    study = write_study(tmp_path / "study", ["QueryAttr"], per_task=10, batch_size=1)
    study.finish(tmp_path / "undisturbed")
    process = study.start(tmp_path / "out")
    wait_until(lambda: len(parts(tmp_path / "out")) >= 2, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 128 + number, error
    assert "Traceback" not in error
    assert error.splitlines()[-1].partition(";")[0] in ("interrupted", f"ended by {number.name}")
    assert len(parts(tmp_path / "out")) >= 2
    assert_some_rows(tmp_path / "out", whole_rows(tmp_path / "undisturbed"))
    study.finish(tmp_path / "out")
    assert_same_run(tmp_path / "out", tmp_path / "undisturbed")


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3])
@pytest.mark.parametrize("command", ["sweep", *(pytest.param(one, marks=pytest.mark.slow) for one in ("evaluate",))])
def test_an_interrupt_in_the_first_moments(command: str, delay: float, tmp_path: Path) -> None:
    """Counted from when the program's own first lines have run; before that it is Python that starts."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", f"xmflow_jax.{command}", "--data", "demo", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr:
        for line in process.stderr:
            if line.endswith(" xmflow_jax.cli.streams\n"):
                break
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        code = process.wait(timeout=120)
    assert "Traceback" not in rest
    (told,) = [line for line in rest.splitlines() if line and not line.startswith("import time:")]
    assert code == 130
    assert told.startswith("interrupted")
    assert list(tmp_path.iterdir()) == []
