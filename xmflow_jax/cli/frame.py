"""What the commands that compute share: settings of their process, exit codes, one-line errors, progress."""

import errno
import os
import shlex
import sys
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

from xmflow_jax.errors import XmflowError


def run_command(name: str, arguments: Sequence[str], work: Callable[[], None]) -> int:
    """Do the work of `python -m xmflow_jax.NAME ARGUMENTS`.

    Returns:
        The exit code: 0 done, 1 another process of the run is lost, 2 bad input or a full disk (one line on standard
        error each), 130 interrupted.
    """
    try:
        with interrupts_kept():
            work()
        sys.stdout.flush()
    except XmflowError as error:
        complain(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Outside the run folder, whose writes are `RunFolderError`s: the folder for temporary files, a log file.
        where = f" at {error.filename}" if error.filename else ""
        complain(f"error: the disk is full{where}; make room, then the same command goes on")
        return 2
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", f"xmflow_jax.{name}", *arguments])
        complain(f"\ninterrupted; what was finished is kept, and this command goes on from there: {again}")
        # An interrupt that passed through an `exec` makes Python end by that signal, whatever is returned here, unless
        # another `exec` follows; dataclasses are made by `exec`, so any import may do it.
        exec("")
        return 130
    return 0


def prepare_process() -> None:
    """Set the environment of a process that computes.

    Compiled programs are kept on disk, and transformers does not say that PyTorch is missing. A setting of the user's
    own wins.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "xmflow_jax" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30))


@contextmanager
def progress_bar(questions: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error with the time left; a log file gets a new state of it every ten seconds.

    Args:
        questions: how many there are to do.
        show: whether there is a bar at all.

    Yields:
        A function that is told how many more questions are done.
    """
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=questions, unit="question", smoothing=0.1, mininterval=interval, disable=not show) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Within this, no Ctrl-C is lost.

    Python drops what a callback of the garbage collector raises, and JAX has such a callback: a Ctrl-C that falls into
    it would be printed and lost. Here it is raised again, from a thread, once the callback is over.
    """
    hook = sys.unraisablehook

    def again(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            Timer(0.05, interrupt_main).start()
        else:
            hook(unraisable)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook


def say(line: str) -> None:
    """Print a line on standard output, at once.

    Where its reader has left (`| head`), the work goes on and nothing more is said.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(line: str) -> None:
    """Print a line on standard error, where it can be written.

    Where a log file's disk is full, Python would end with an exit code of its own because of what it cannot write; that
    text is dropped.
    """
    with suppress(OSError):
        print(line, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
