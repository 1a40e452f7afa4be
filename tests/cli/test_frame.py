"""How a command ends: exit codes, and one line, whatever ended it."""

import errno
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xmflow_jax.cli.frame import run_command
from xmflow_jax.cli.replay import command_line
from xmflow_jax.cli.sweep_arguments import parse_sweep_arguments
from xmflow_jax.errors import OptionError
from xmflow_jax.machine.compiled_cache import keep_programs, remove_unfinished_programs
from xmflow_jax.machine.home import expanded
from xmflow_jax.machine.scratch import scratch_folder
from xmflow_jax.study.inputs import usual_folder


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "error: /a/b: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 99), f"error: {'x' * 99}: File name too long"),
        (OSError(errno.ELOOP, "Too many levels", "a\nb"), "error: a b: Too many levels"),
        (OSError(errno.EROFS, "Read-only file system", "/mnt"), "error: /mnt: Read-only file system"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/t"),
            "error: the disk is full at /t; make room, then the same command goes on",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            "error: the disk is full; make room, then the same command goes on",
        ),
    ],
)
def test_what_the_system_says_of_a_path_is_one_line(
    error: OSError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("sweep", [], raising(error)) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), FileNotFoundError(2, "x", "y")])
def test_what_may_be_the_programs_fault_keeps_its_traceback(error: OSError) -> None:
    with pytest.raises(type(error)):
        run_command("sweep", [], raising(error))


def test_an_interrupt_that_a_library_turned_into_its_own_error_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise ImportError("numpy cannot be imported") from interrupt

    assert run_command("convert", ["a b", "-c"], work, after_interrupt="nothing was written") == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing was written\n"
    assert run_command("sweep", ["--out", "a b"], work) == 130
    again = capsys.readouterr().err.rpartition(" from there: ")[2]
    assert shlex.split(again) == ["python", "-m", "xmflow_jax.sweep", "--out", "a b"]


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")])
def test_a_scheduler_or_a_closed_terminal_ends_the_work_in_good_order(
    number: signal.Signals, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[Path] = []

    def work() -> None:
        with scratch_folder() as scratch:
            left.append(scratch)
            (scratch / "drawn").touch()
            os.kill(os.getpid(), number)
            raise AssertionError("the signal came to nothing")

    # The tests themselves may run under `nohup`.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert run_command("sweep", [], work) == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert not left[0].exists()
    assert capsys.readouterr().err.startswith(f"\nended by {name}; what was finished is kept")


def test_a_hangup_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command("sweep", [], lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


EARLY = """
import os, signal, sys
from xmflow_jax.cli.early import end_quietly, take_interrupts
if "ignored" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
else:
    signal.signal(signal.SIGINT, signal.default_int_handler)
end_quietly()
if "taken" in sys.argv:
    take_interrupts()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("word", "code", "error"),
    [("early", 130, "\ninterrupted before anything was begun\n"), ("taken", 7, ""), ("ignored", 0, "")],
)
def test_an_interrupt_before_the_work_is_quiet(word: str, code: int, error: str) -> None:
    done = subprocess.run([sys.executable, "-c", EARLY, word], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (code, error)


def test_without_a_place_for_temporary_files_there_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(OptionError, match=r"no folder for temporary files: No usable temporary .*nowhere.*TMPDIR"):
        scratch_folder().__enter__()


FOLDER = "JAX_COMPILATION_CACHE_DIR"


@pytest.mark.parametrize(
    ("home", "named", "kept"),
    [
        ({"XDG_CACHE_HOME": "{}/caches"}, None, "{}/caches/xmflow_jax/compiled"),
        ({"HOME": "{}/home"}, None, "{}/home/.cache/xmflow_jax/compiled"),
        ({"HOME": "{}/home", "XDG_CACHE_HOME": "relative"}, None, "{}/home/.cache/xmflow_jax/compiled"),
        ({"HOME": "{}/home"}, "{}/mine", "{}/mine"),
        ({"HOME": "/dev/null"}, "gs://bucket/mine", "gs://bucket/mine"),
    ],
)
def test_compiled_programs_are_kept(
    home: dict[str, str], named: str | None, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {name: value.format(tmp_path) for name, value in home.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if named is not None:
        environment[FOLDER] = named.format(tmp_path)
    assert keep_programs(environment) is None
    assert environment[FOLDER] == kept.format(tmp_path)
    assert "://" in kept or Path(environment[FOLDER]).is_dir()


SECOND_PROCESS = """
from xmflow_jax.cli.frame import prepare_process
prepare_process()
import jax
print(jax.config.jax_compilation_cache_dir)
print(jax.config.jax_persistent_cache_min_compile_time_secs, jax.config.jax_compilation_cache_max_size)
jax.jit(lambda x: x * 2 + 1)(3.0)
"""


def test_a_command_s_jax_keeps_even_what_is_compiled_in_no_time(tmp_path: Path) -> None:
    """JAX heeds none of these settings once it has been imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    told = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS], env=environment, capture_output=True, text=True, check=True, timeout=240
    )
    folder = tmp_path / "xmflow_jax" / "compiled"
    assert told.stdout.split() == [str(folder), "0.0", str(2**30)]
    assert list(folder.glob("*-cache"))


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nowhere", "{}/file", "{}/" + "x" * 300])
def test_a_home_that_cannot_be_written_costs_the_kept_programs_and_no_more(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    environment = {"HOME": home.format(tmp_path)}
    monkeypatch.setenv("HOME", environment["HOME"])
    refused = keep_programs(environment)
    assert refused == f"{environment['HOME']}/.cache/xmflow_jax/compiled"
    assert environment["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert remove_unfinished_programs(environment) == []
    named = {FOLDER: f"{environment['HOME']}/mine"}
    assert keep_programs(named) == f"{environment['HOME']}/mine"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    monkeypatch.setattr(Path, "home", lambda: unknown(Path("~")))
    assert keep_programs({}) == "the home folder, which is not known"
    assert expanded("~nobody/model") == Path("~nobody/model")


def test_a_run_that_keeps_no_programs_makes_no_folder_for_them(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "caches"), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    assert keep_programs(environment) is None
    assert not (tmp_path / "caches").exists()


@pytest.mark.parametrize(
    "name", ["plain", "x" * 255, "\u8d64" * 80, "caf\udce9", "a b'\"$(c)", "two\nlines", "-dash"], ids=ascii
)
def test_the_usual_run_folder_can_be_made(name: str, tmp_path: Path) -> None:
    folder = tmp_path / usual_folder(name, f"{name}.csv", "evaluate-", "-shuffled")
    folder.mkdir(parents=True)
    assert folder.is_dir()
    str(folder).encode()
    assert usual_folder("org/llava-1.5", "questions") == Path("runs/llava-1.5-questions")


@pytest.mark.parametrize(
    "words",
    [
        ["--out", "a b'\"$(c)"],
        ["--out=-x"],
        ["--out", "two\nlines"],
        ["--data", "./-x.csv", "./-y z.csv", "--images=-images"],
        ["--data", "caf\udce9.csv", "--images", "\u8d64"],
        ["--template=-{question}", "--model", "./-model"],
    ],
    ids=ascii,
)
def test_the_command_that_a_run_remembers_asks_for_the_same(words: list[str]) -> None:
    options = parse_sweep_arguments(words)
    python, dash, module, *again = shlex.split(command_line(options) or "")
    assert (python, dash, module) == ("python", "-m", "xmflow_jax.sweep")
    assert parse_sweep_arguments(again) == options
