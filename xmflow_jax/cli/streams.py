"""Standard output and error: no letter that they cannot hold, and no reader that has left, ends hours of work."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final, TextIO

# What a write says once its reader is gone: a pipe such as `| head`, or a terminal that was closed.
_GONE: Final = (errno.EPIPE, errno.EIO)


def prepare_streams() -> None:
    """Let standard output and error replace letters that their encoding does not have (`LANG=C`, `PYTHONIOENCODING`).

    One that was closed before the process began leads nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), "utf-8", "replace"))
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def say(line: str) -> None:
    """Print a line on standard output, at once.

    Where its reader has left (`| head`, a closed terminal), the work goes on and nothing more is said.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        _mute(sys.stdout, error)


def complain(line: str) -> None:
    """Print a line on standard error, where it can be written."""
    with suppress(OSError):
        print(line, file=sys.stderr)


def finish_streams() -> None:
    """Write what is left. Python would end with an exit code of its own because of what it cannot write; that text is
    dropped.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _lead_nowhere(stream)


class HeardOrNot:
    """Standard error for a progress bar: once its reader has left, nothing more is written and nothing is raised."""

    def write(self, text: str) -> int:
        """As of a stream."""
        try:
            return sys.stderr.write(text)
        except OSError as error:
            _mute(sys.stderr, error)
            return len(text)

    def flush(self) -> None:
        """As of a stream."""
        try:
            sys.stderr.flush()
        except OSError as error:
            _mute(sys.stderr, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def _mute(stream: TextIO, error: OSError) -> None:
    if error.errno not in _GONE:
        raise error
    _lead_nowhere(stream)


def _lead_nowhere(stream: TextIO) -> None:
    with suppress(OSError):  # a stream of a test or a notebook has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
