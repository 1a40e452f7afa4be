"""A Ctrl-C while a command is still being imported: it ends quietly, with the exit code of an interrupt.

Named first of all by a command's module, which is why nothing but the standard library's quickest modules is imported.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = 130


def end_quietly() -> None:
    """From here on a Ctrl-C ends the process at once, until `take_interrupts`. One that is ignored stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def take_interrupts() -> None:
    """From here on a Ctrl-C is Python's `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Within this, a Ctrl-C and other signals that a handler takes wait until the end.

    For imports that run C++: jaxlib's aborts the process (`terminate called`) where an interrupt falls into it.
    Signals cannot be blocked instead, because the threads of other libraries would take them.
    """
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    taken = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        taken = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in taken:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
        for late in waiting[:1]:
            signal.raise_signal(late)


def _end(number: int, frame: FrameType | None) -> None:
    # Standard error's own buffer may be in use at this very moment.
    with suppress(OSError):
        os.write(2, b"\ninterrupted before anything was begun\n")
    os._exit(INTERRUPTED)
