"""A Ctrl-C while a command is still being imported: it ends quietly, with the exit code of an interrupt.

Named first of all by a command's module, which is why nothing but the standard library's quickest modules is imported.
"""

import os
import signal
from contextlib import suppress
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


def _end(number: int, frame: FrameType | None) -> None:
    # Standard error's own buffer may be in use at this very moment.
    with suppress(OSError):
        os.write(2, b"\ninterrupted before anything was begun\n")
    os._exit(INTERRUPTED)
