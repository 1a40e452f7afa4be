"""Standard output and error that cannot hold a letter, or whose reader has left."""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from xmflow_jax.cli.frame import progress_bar
from xmflow_jax.cli.streams import complain, finish_streams, prepare_streams, say

LINE = "Image \u21db Last, Question->Last: caf\u00e9, \u8d64, \U0001f600, \udcff"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8", "koi8-r", "shift-jis"])
def test_letters_that_a_stream_cannot_hold_are_replaced(
    monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str
) -> None:
    written = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding, errors))
    prepare_streams()
    say(LINE)
    complain(LINE)
    finish_streams()
    for stream in written.values():
        assert stream.getvalue() == f"{LINE}\n".encode(encoding, "replace")


def test_a_handler_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PYTHONIOENCODING=ascii:xmlcharrefreplace`."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", "xmlcharrefreplace"))
    prepare_streams()
    say("\u21db")
    assert written.getvalue() == b"&#8667;\n"


def test_streams_that_were_closed_before_the_process_began_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    prepare_streams()
    say(LINE)
    complain(LINE)
    with progress_bar(2, show=True) as advance:
        advance(1)
    finish_streams()
    sys.stdout.close()
    sys.stderr.close()


def pipe_without_a_reader() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def terminal_that_was_closed() -> TextIO:
    screen, terminal = os.openpty()
    os.close(screen)
    return os.fdopen(terminal, "w")


@pytest.mark.parametrize("gone", [pipe_without_a_reader, terminal_that_was_closed])
def test_a_reader_that_has_left_is_written_to_no_more(
    monkeypatch: pytest.MonkeyPatch, gone: Callable[[], TextIO]
) -> None:
    with pytest.raises(OSError, match=r"Broken pipe|Input/output error"), gone() as stream:
        print("news", file=stream, flush=True)
    with gone() as out, gone() as error:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", error)
        prepare_streams()
        with progress_bar(3, show=True) as advance:
            for _ in range(3):
                say("news")
                advance(1)
        complain("bad news")
        finish_streams()
        os.write(out.fileno(), b"into nowhere")  # the descriptor, too: what a library prints is no error either


def test_a_full_disk_under_the_news_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space") as caught:
            say("news")
        assert caught.value.errno == errno.ENOSPC
        finish_streams()
