"""What the tests of bad input share: a small study, and a command that must be refused before any work."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.monitoring
import pandas as pd
import pytest

from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.study.shipped import write_random_tiny
from xmflow_jax.sweep import main

LAYERS = 3
COMPILED = "/jax/core/compile/backend_compile_duration"

# What lies under a folder: the bytes of each file, None for a folder.
Content = dict[str, bytes | None]


@dataclass(frozen=True)
class Given:
    """A study that would run: a tiny random LLaVA, a file of two questions, and the folder of their images."""

    model: Path
    file: Path
    images: Path

    def command(self, out: Path, *more: str) -> list[str]:
        """Its arguments; options in `more` take the place of those given here."""
        named = ["--model", self.model, "--data", self.file, "--images", self.images, "--out", out]
        return [*map(str, named), "--select", "all", "--pathways", "Image->Last", "--no-self-check", *more]

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.file, dtype=str, keep_default_na=False)

    def copied_model(self, target: Path) -> Path:
        """One that a test may spoil."""
        return Path(shutil.copytree(self.model, target))


def write_given(folder: Path) -> Given:
    model = write_random_tiny(folder / "model", layers=LAYERS)
    files, images = write_demo_questions(folder / "data", per_task=2, seed=0)
    (file,) = (file for file in files if file.stem.endswith("QueryAttr"))
    return Given(model, file, images)


def content(folder: Path) -> Content:
    """Everything under a folder, which need not exist."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def compiled_programs() -> Iterator[list[str]]:
    """The programs that XLA compiles meanwhile."""
    programs: list[str] = []

    def listen(event: str, seconds: float, **about: Any) -> None:
        if event == COMPILED:
            programs.append(str(about.get("fun_name", "a program")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@dataclass(frozen=True)
class Refusal:
    """Runs commands that must end with exit code 2 and one line, with nothing compiled and nothing written.

    Attributes:
        folder: must stay as it was, byte for byte.
        run: the command.
        may_compile: for what is refused behind the estimate, whose matmul is timed.
    """

    capsys: pytest.CaptureFixture[str]
    folder: Path
    run: Callable[[list[str]], int] = main
    may_compile: frozenset[str] = frozenset()

    def __call__(self, arguments: list[str]) -> str:
        """The line, without its `error: `."""
        before = content(self.folder)
        self.capsys.readouterr()
        with compiled_programs() as programs:
            code = self.run(arguments)
        error = self.capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("error: "), error
        assert error.endswith("\n"), error
        assert len(error.splitlines()) == 1, error
        assert "Traceback" not in error
        assert set(programs) <= self.may_compile
        assert content(self.folder) == before
        return error.removeprefix("error: ").removesuffix("\n")
