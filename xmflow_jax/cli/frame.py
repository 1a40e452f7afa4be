"""What the commands share: settings of their process, exit codes, one-line errors, progress."""

import errno
import os
import shlex
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Timer
from types import FrameType
from typing import Final

from xmflow_jax.cli.early import INTERRUPTED, interrupts_wait, take_interrupts
from xmflow_jax.cli.streams import HeardOrNot, complain, finish_streams, prepare_streams, say
from xmflow_jax.errors import XmflowError
from xmflow_jax.machine.compiled_cache import keep_programs

__all__ = ["complain", "prepare_process", "progress_bar", "run_command", "say"]

# What a command says that goes on where it was, once it was interrupted.
GOES_ON: Final = "what was finished is kept, and this command goes on from there: {command}"

# What the system says of a path that was named, wherever it is looked at first.
_OF_PATHS: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE)


class EndedBySignal(KeyboardInterrupt):
    """The process was told to end: by a scheduler (SIGTERM), or because its terminal was closed (SIGHUP)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run_command(name: str, arguments: Sequence[str], work: Callable[[], None], after_interrupt: str = GOES_ON) -> int:
    """Do the work of `python -m xmflow_jax.NAME ARGUMENTS`.

    Args:
        after_interrupt: what is said once it was interrupted, with a place for the command.

    Returns:
        The exit code: 0 done, 1 another process of the run is lost, 2 bad input or a full disk (one line on standard
        error each), 130 interrupted, 128 and the signal's number where it was told to end by SIGTERM or SIGHUP.
    """
    prepare_streams()
    take_interrupts()
    try:
        with interrupts_kept(), _signals_raised():
            work()
        return 0
    except XmflowError as error:
        complain(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt, name, arguments, after_interrupt)
    except Exception as error:
        # Some libraries make an error of their own of a Ctrl-C that reaches them while they are imported.
        if (hidden := _behind(error)) is not None:
            return _interrupted(hidden, name, arguments, after_interrupt)
        if not isinstance(error, OSError) or (told := _of_the_system(error)) is None:
            raise
        complain(f"error: {told}")
        return 2
    finally:
        finish_streams()


def _interrupted(interrupt: BaseException, name: str, arguments: Sequence[str], after: str) -> int:
    """Say what remains, and return the exit code."""
    number = interrupt.number if isinstance(interrupt, EndedBySignal) else None
    what = "interrupted" if number is None else f"ended by {signal.Signals(number).name}"
    again = shlex.join(["python", "-m", f"xmflow_jax.{name}", *arguments])
    complain(f"\n{what}; {after.format(command=again) if '{command}' in after else after}")
    # An interrupt that passed through an `exec` makes Python end by that signal, whatever is returned here, unless
    # another `exec` follows; dataclasses are made by `exec`, so any import may do it.
    exec("")
    return INTERRUPTED if number is None else 128 + number


def _of_the_system(error: OSError) -> str | None:
    """What is wrong with a path, a disk or a permission, for people; None for what may be the program's fault."""
    where = " ".join(str(error.filename or "").splitlines())
    # Outside the run folder, whose writes are `RunFolderError`s: the folder for temporary files, a log file.
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where and f' at {where}'}; make room, then the same command goes on"
    return f"{where}: {error.strerror}" if where and error.errno in _OF_PATHS else None


def _behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error was made of, if it was."""
    for _ in range(20):
        if error is None or isinstance(error, KeyboardInterrupt):
            break
        error = error.__cause__ or error.__context__
    return error if isinstance(error, KeyboardInterrupt) else None


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Within this, SIGTERM and SIGHUP end the work as a Ctrl-C does: half-written files and folders are removed.

    A signal that is ignored, as under `nohup`, stays so.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise EndedBySignal(number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) == signal.SIG_DFL]
    for one in ours:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def prepare_process() -> None:
    """Set the environment of a process that computes.

    Compiled programs are kept on disk where that is possible, and transformers does not say that PyTorch is missing. A
    setting of the user's own wins.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # JAX reads its settings while it is imported.
    refused = keep_programs()
    with interrupts_wait():
        import_module("jax")  # for the first time
    if refused is not None:
        complain(f"compiled programs cannot be kept in {refused}; each process compiles its own")


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
    with tqdm(
        total=questions, unit="question", smoothing=0.1, mininterval=interval, disable=not show, file=HeardOrNot()
    ) as bar:

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
