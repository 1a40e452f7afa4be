"""Files that lie beside a person's own without their doing: `.DS_Store`, `._x` of macOS archives, `~$x` of Excel."""

from pathlib import Path
from typing import Final

_MARKS: Final = (".", "~$")
# Where macOS archives keep what belongs to its own file system.
_MACOS: Final = "__MACOSX"


def is_hidden(path: Path) -> bool:
    """Whether a file that was found in a folder is none that a person put there."""
    return path.name.startswith(_MARKS) or path.parent.name == _MACOS
