"""What the tests of killed, interrupted and starved runs share: a small study, and real processes that run it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.run.folder import read_rows
from xmflow_jax.study.shipped import write_random_tiny

LAYERS = 3
ROOT = Path(__file__).parents[2]
KEY = ["task", "question_id", "pathway", "style", "layer"]
TEMPORARY = "*.xmflow-partial"


@dataclass(frozen=True)
class Study:
    """A study's command, and the environment that keeps what its processes write, but for results, in `folder`."""

    folder: Path
    arguments: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "HOME": self.folder / "home",
            "MPLCONFIGDIR": self.folder / "matplotlib",
            "JAX_COMPILATION_CACHE_DIR": self.folder / "compiled",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PLATFORMS": "cpu",
            # What an interrupted command names is `python`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        # Standard output is buffered, as it is for users; tests of the command in this process set JAX's variables.
        others = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "PYTHONUNBUF"))}
        return {**others, **{name: str(value) for name, value in own.items()}}

    def command(self, out: Path) -> list[str]:
        return [sys.executable, "-m", "xmflow_jax.sweep", *self.arguments, "--out", str(out)]

    def start(self, out: Path) -> subprocess.Popen[str]:
        return start(self.command(out), self)

    def finish(self, out: Path) -> str:
        """Run it to its end; returns what it printed."""
        process = self.start(out)
        printed, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
        return printed


def start(command: Sequence[str], study: Study) -> subprocess.Popen[str]:
    # A shell that puts the tests in the background has them, and all that they start, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        command, cwd=ROOT, env=study.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def write_study(
    folder: Path,
    tasks: Sequence[str],
    per_task: int,
    batch_size: int,
    write_model: Callable[[Path], Path] = lambda folder: write_random_tiny(folder, layers=LAYERS),
) -> Study:
    """A tiny model with random weights, and `per_task` questions of each task; the second question has no image."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "home").mkdir()
    model = write_model(folder / "model")
    files, images = write_demo_questions(folder / "data", per_task=per_task, seed=1)
    data = [file for file in files if file.stem.partition("_")[2] in tasks]
    assert len(data) == len(tasks)
    first = pd.read_csv(data[0], dtype=str)
    (images / f"{first['img_id'][1]}.jpg").unlink()
    arguments = ["--model", str(model), "--images", str(images), "--data", *map(str, data), "--select", "all"]
    arguments += ["--batch-size", str(batch_size), "--pathways", "Image->Last", "--no-self-check"]
    return Study(folder, tuple(arguments))


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("results/part-*.parquet"))


def wait_until(happened: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Polls nearly without a pause, so as to hit a write while it lasts; the process must not end before."""
    deadline = time.monotonic() + seconds
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            _, error = process.communicate()
            raise AssertionError(f"exit status {process.returncode} before it happened: {error}")
        time.sleep(0.0002)


def kill(process: subprocess.Popen[str]) -> int:
    """SIGKILL; returns the exit status, which is the signal's unless the process had ended before."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return process.returncode


def whole_rows(out: Path) -> pd.DataFrame:
    """Every row of every part that lies there, read by pyarrow alone: a row that is there twice is there twice."""
    # From their bytes: pyarrow takes no path that is not UTF-8.
    tables = [pq.read_table(pa.BufferReader(path.read_bytes())).to_pandas() for path in parts(out)]
    return pd.concat(tables, ignore_index=True).sort_values(KEY, kind="stable", ignore_index=True)


def assert_same_run(out: Path, undisturbed: Path) -> None:
    """The rows bit for bit, none missing, none twice; so too what is made of them, and what was set aside."""
    expected = whole_rows(undisturbed)
    assert not expected.duplicated(KEY).any()
    pd.testing.assert_frame_equal(whole_rows(out), expected, check_exact=True)
    pd.testing.assert_frame_equal(read_rows(out), expected, check_exact=True)
    for name in ("summary.csv", "recommendation.json", "lens.parquet"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    drawn = [sorted(path.name for path in (folder / "figures").iterdir()) for folder in (out, undisturbed)]
    assert drawn[0] == drawn[1]
    assert not list(out.rglob(TEMPORARY))


def assert_some_rows(out: Path, undisturbed: pd.DataFrame) -> None:
    """Whatever happened to the run, what is there can be read and is part of the undisturbed run's."""
    rows = read_rows(out)
    keys = pd.MultiIndex.from_frame(rows[KEY])
    expected = undisturbed[pd.MultiIndex.from_frame(undisturbed[KEY]).isin(keys)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)
