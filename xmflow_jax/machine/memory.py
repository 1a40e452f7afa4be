"""Whether a pass fits the device's memory, known before it runs: XLA says what a compiled program takes.

A program needs its results and its scratch space at once, beside what lies on the device already: weights, and what
earlier passes left for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class MemoryShort(Exception):
    """A compiled program takes more memory than is free; it was not run.

    Attributes:
        needed, free: bytes of each device.
    """

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"a program needs {needed} bytes of a device that has {free} free")
        self.needed, self.free = needed, free


# Bytes that are free on each device, or None where that is not known.
Free = Callable[[], int | None]

_FREE: ContextVar[Free | None] = ContextVar("free memory of a device", default=None)


@contextmanager
def memory_planned(free: Free) -> Iterator[None]:
    """Within this, passes (`split.over_questions`) raise `MemoryShort` rather than be run where they do not fit."""
    token = _FREE.set(free)
    try:
        yield
    finally:
        _FREE.reset(token)


def is_planned() -> bool:
    """Whether anyone asks what passes take."""
    return _FREE.get() is not None


def program_bytes(compiled: Any) -> int | None:
    """What a compiled program (`jax.stages.Compiled`) takes of each device besides its arguments; None where the
    backend does not say."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    return int(stats.temp_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes)


def check_fits(compiled: Any) -> None:
    """Compare a program with what is free.

    Raises:
        MemoryShort: it does not fit.
    """
    free_bytes = _FREE.get()
    free, needed = None if free_bytes is None else free_bytes(), program_bytes(compiled)
    if free is not None and needed is not None and needed > free:
        raise MemoryShort(needed, free)
