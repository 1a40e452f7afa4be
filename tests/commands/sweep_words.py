"""The words of a sweep's command line."""

from pathlib import Path
from typing import Any


def command(given: dict[str, Any], out: Path, *more: str) -> list[str]:
    """The keywords of `run_sweep` as words; options in `more` take the place of those given.

    Args:
        given: keywords and their values; `self_check` must be False.
        out: the run folder.
    """
    words: list[str] = []
    for name, value in given.items():
        if name == "self_check":
            assert value is False
            words.append("--no-self-check")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return [*words, "--out", str(out), *more]
