"""The console script and what importing the package costs."""

import subprocess
import sys

import pytest

import xmflow_jax
from xmflow_jax import sweep
from xmflow_jax.__main__ import COMMANDS, main


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_a_command_of_no_such_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swep", "--help"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert "'swep'" in error
    assert all(command in error for command in COMMANDS)


def test_no_command_is_refused_and_help_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    for option in ("-h", "--help"):
        assert main([option]) == 0
        assert capsys.readouterr() == (error, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gets_what_follows_its_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: python -m xmflow_jax.{command} " in capsys.readouterr().out


def test_a_commands_exit_code_is_handed_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmflow_jax.sweep.prepare_process", lambda: None)
    assert main(["sweep", "--samples", "0"]) == 2
    assert capsys.readouterr().err == "error: --samples 0 is not 1 or more\n"
    monkeypatch.setattr(sys, "argv", ["xmflow", "sweep", "--samples", "-3"])
    assert main() == 2
    assert "-3" in capsys.readouterr().err


def test_python_m_runs_the_commands_without_a_warning() -> None:
    """Were a command's module imported by the package, runpy would warn that it is run twice."""
    for module in ("xmflow_jax", "xmflow_jax.sweep", "xmflow_jax.convert"):
        done = python("-W", "error", "-m", module, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "usage" in done.stdout
    done = python("-m", "xmflow_jax", "swep")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "program",
    ["import xmflow_jax", "from xmflow_jax.__main__ import main; main(['--help'])"],
    ids=["import", "xmflow --help"],
)
def test_asking_for_help_imports_nothing_slow(program: str) -> None:
    slow = "{'jax', 'flax', 'transformers', 'pandas', 'pyarrow', 'matplotlib', 'torch'}"
    done = python("-c", f"{program}\nimport sys\nprint(sorted({slow} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_functions_are_attributes_of_the_package() -> None:
    assert xmflow_jax.run_sweep is sweep.run_sweep
    assert xmflow_jax.SweepResult is sweep.SweepResult
    assert callable(xmflow_jax.convert_checkpoint)
    with pytest.raises(AttributeError, match="'run_swep'"):
        _ = xmflow_jax.run_swep
    # In a fresh process too, where nobody has imported the command's module before.
    done = python(
        "-c", "from xmflow_jax import run_sweep; import sys; print(run_sweep.__module__, 'jax' in sys.modules)"
    )
    assert done.stdout == "xmflow_jax.sweep False\n", done.stderr


def test_work_goes_on_where_nobody_reads_its_news_any_more() -> None:
    """As in `python -m xmflow_jax.sweep --preview 4 | head`."""
    work = "[say('news') for _ in range(3)]; print('done', file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; from xmflow_jax.cli.frame import say; {work}"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stderr is not None
    with running, running.stderr:
        running.stdout.close()
        assert (running.stderr.read(), running.wait(timeout=60)) == ("done\n", 0)
