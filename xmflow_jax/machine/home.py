"""The home folder, which a process need not have: containers run under users without a name."""

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~user` at its start replaced by that home folder, or as it is where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
