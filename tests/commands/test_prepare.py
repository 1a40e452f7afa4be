"""The command `python -m xmflow_jax.prepare`: its exit codes, its one line, its bar."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.missing_packages import without
from tests.data.sources.benchmark_files import gqa_study_folder
from xmflow_jax.prepare import main

# `importlib_resources` stays: other packages import it.
HIDE_THE_EXTRA = without("tensorflow_datasets", "array_record")


def test_the_command_builds_and_says_where(tmp_path: Path) -> None:
    folder = gqa_study_folder(tmp_path / "files")
    command = [sys.executable, "-m", "xmflow_jax.prepare", "gqa_study", "--manual-dir", str(folder)]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "validation: 12 questions, of 5,525 published",
        f"gqa_study lies in {tmp_path / 'gqa_study' / '1.0.0'}",
    ]
    assert "12/12" in done.stderr
    assert "Downloading" not in done.stdout + done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["vqa", "--manual-dir", "."], "there is no benchmark 'vqa' to prepare; expected one of vqa_v2, ok_vqa, gqa"),
        (["vqa_v2", "--manual-dir", "no/such"], "no/such: no such folder"),
        (["vqa_v2"], "--manual-dir"),
        (["--manual-dir", "."], "name"),
        (["vqa_v2", "--manual-dir", ".", "--colour"], "--colour"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert named in error


def test_a_faulty_file_is_named_and_nothing_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = gqa_study_folder(tmp_path / "files")
    path = next(folder.glob("*_ChooseRel.csv"))
    path.write_text(path.read_text().replace("n578564", " "))
    assert main(["gqa_study", "--manual-dir", str(folder), "--out", str(tmp_path / "sets")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines()[-1].startswith(f"error: {path}, line 3: 'img_id' is empty")
    assert not list((tmp_path / "sets").rglob("*array_record*"))


def test_a_write_that_fails_ends_with_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    folder = gqa_study_folder(tmp_path / "files")
    # No file may grow beyond 4 KiB, which fails as a full disk does.
    command = [sys.executable, "-m", "xmflow_jax.prepare", "gqa_study", "--manual-dir", str(folder)]
    limited = ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", *command, "--out", str(tmp_path / "sets")]
    done = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path / 'sets' / 'gqa_study' / '1.0.0'} cannot be written: ")
    assert "File too large" in last
    assert "Traceback" not in done.stderr
    assert not [path for path in (tmp_path / "sets").rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", ["prepare", "sweep", "evaluate"])
def test_without_the_extra_a_benchmark_ends_with_one_line_that_names_it(command: str, tmp_path: Path) -> None:
    """The packages are hidden from a process of its own, as if they had never been installed."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one").touch()
    words = {"prepare": ["gqa", "--manual-dir", str(tmp_path / "files"), "--out", str(tmp_path / "sets")]}
    given = words.get(command, ["--data", "gqa", "--out", str(tmp_path / "run")])
    code = f"{HIDE_THE_EXTRA}\nfrom xmflow_jax.{command} import main\nsys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "error: the benchmark 'gqa' needs tensorflow_datasets, array_record, not installed here; install this program "
        "with its extra 'prepare': pip install '.[prepare]' in its folder\n"
    )
    assert not (tmp_path / "run").exists()
