"""JAX's cache of compiled programs after a kill in mid-write: mended, and nothing else is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from xmflow_jax.machine import compiled_cache
from xmflow_jax.machine.compiled_cache import remove_unfinished_programs


def settings(folder: Path, size: str = "1000000") -> dict[str, str]:
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_COMPILATION_CACHE_MAX_SIZE": size}


COMPILE = """
import sys
import jax
from xmflow_jax.machine.compiled_cache import remove_unfinished_programs
if "mend" in sys.argv:
    assert len(remove_unfinished_programs()) == 1
print(jax.jit(lambda x: x * 2 + int(sys.argv[1]))(3.0))
"""


def compiled(folder: Path, *arguments: str) -> str:
    """What a process complains of that compiles a program."""
    environment = {**os.environ, **settings(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "true"}
    command = [sys.executable, "-c", COMPILE, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=240)
    assert float(done.stdout) == 6 + int(arguments[0])
    return done.stderr


def test_a_cache_with_an_unfinished_program_is_mended(tmp_path: Path) -> None:
    """Without that, JAX 0.10 adds no program any more and every process complains; later versions get along with such
    a cache. Once mended, none complains, programs are added, and the one that was cut short is compiled again."""
    assert compiled(tmp_path, "0") == ""
    program = max(tmp_path.glob("*-cache"), key=lambda path: path.stat().st_size)
    program.write_bytes(program.read_bytes()[:100])
    (tmp_path / f"{program.name.removesuffix('-cache')}-atime").unlink()
    known = set(tmp_path.glob("*-cache"))
    assert compiled(tmp_path, "2", "mend") == ""
    assert set(tmp_path.glob("*-cache")) - known
    assert compiled(tmp_path, "0") == ""
    assert program.stat().st_size > 100


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"12345678")


def test_finished_programs_and_other_files_stay(tmp_path: Path) -> None:
    write(tmp_path, "a-cache", "a-atime", "b-cache", "c-cache", "other")
    (tmp_path / "c-atime").touch()
    assert sorted(remove_unfinished_programs(settings(tmp_path))) == ["b-cache", "c-cache"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lockfile", "a-atime", "a-cache", "other"]


@pytest.mark.parametrize("size", ["-1", None])
def test_a_cache_without_times_is_left_alone(tmp_path: Path, size: str | None) -> None:
    write(tmp_path, "a-cache")
    chosen = {name: value for name, value in settings(tmp_path, size or "").items() if value}
    assert remove_unfinished_programs(chosen) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a-cache"]


def test_no_cache_is_no_error_and_makes_none(tmp_path: Path) -> None:
    assert remove_unfinished_programs({}) == []
    assert remove_unfinished_programs(settings(tmp_path / "none")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_another_process_is_writing_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_cache, "PATIENCE", 0.05)
    write(tmp_path, "a-cache")
    with FileLock(tmp_path / ".lockfile"):
        assert remove_unfinished_programs(settings(tmp_path)) == []
    assert (tmp_path / "a-cache").exists()
    assert remove_unfinished_programs(settings(tmp_path)) == ["a-cache"]
