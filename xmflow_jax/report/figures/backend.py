"""Matplotlib without a screen: imported when the first figure is drawn, whatever backend the user's settings name."""

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def import_matplotlib() -> None:
    """Import it whatever backend `MPLBACKEND` names: figures go to files, which needs none.

    A notebook names its own backend for all that it starts, and where that is not installed Matplotlib refuses to be
    imported. A backend that is there stays the user's.
    """
    if "matplotlib" in sys.modules:
        return
    asked = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if asked is not None:
            os.environ["MPLBACKEND"] = asked
    if asked:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = asked


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, whose parts are laid out so that none covers another."""
    import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
