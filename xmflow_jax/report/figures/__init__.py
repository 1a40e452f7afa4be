"""Figures as files. Matplotlib is imported here, before any module of this folder imports a part of it."""

import os
import sys
from contextlib import suppress


def _import_matplotlib() -> None:
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


_import_matplotlib()
