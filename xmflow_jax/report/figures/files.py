"""How figures look and how they become files: one style, names made from tasks, the same bytes for the same figure."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.run.folder import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Final = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "font.size": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    # TrueType rather than Type 3: journals refuse Type 3 fonts, and the text stays editable.
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}

# The figures of all tasks together.
OVERVIEW: Final = "overview"
ANSWER_TRACKING: Final = "answer_tracking"

# What is put behind a task's name in the files of its figures: the measure's suffix, and then for curves nothing.
HEAT_MAP: Final = "-heat-map"
HEADS: Final = "-heads"
FIGURE_KINDS: Final = tuple(f"{measure.suffix}{kind}" for measure in MEASURES for kind in ("", HEAT_MAP, HEADS))

# Dates and versions would make two files of the same figure differ.
_METADATA: Final = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save under this: matplotlib's defaults with ours on top, whatever the user's own settings are."""
    import matplotlib.style

    with matplotlib.style.context(_STYLE, after_reset=True):
        yield


def save_figure(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write `folder/name.png` and `folder/name.pdf`, whole or not at all; the folder is there already.

    The figure's layout is fixed from then on: both files have the one that is found first.

    Raises:
        RunFolderError: a file cannot be written.
    """
    paths = []
    for kind in _METADATA:
        path = folder / f"{name}.{kind}"
        write_atomically(path, _file_content(figure, kind))
        paths.append(path)
    return paths


def _file_content(figure: "Figure", kind: str) -> bytes:
    data = io.BytesIO()
    with figure_style():
        # A third of the time that saving takes: once for both files is enough.
        if (layout := figure.get_layout_engine()) is not None and figure.axes:
            layout.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(data, format=kind, metadata=_METADATA[kind])
    return data.getvalue()


def figure_names(tasks: Iterable[str], reserved: Iterable[str] = (OVERVIEW, ANSWER_TRACKING)) -> dict[str, str]:
    """A file name without suffix for each task, which may hold any text (`what color is the/`).

    Names differ even where a file system ignores case, and from the reserved ones; equal tasks give equal names. So do
    the names with a kind of figure behind them (`FIGURE_KINDS`).
    """
    taken = {f"{name}{kind}".lower() for name in reserved for kind in FIGURE_KINDS}
    names: dict[str, str] = {}
    for task in sorted(set(tasks)):
        stem = re.sub(r"[^\w.-]+", "_", task, flags=re.ASCII).strip("._")[:80] or "task"
        name, count = stem, 1
        while taken & (own := {f"{name}{kind}".lower() for kind in FIGURE_KINDS}):
            count += 1
            name = f"{stem}-{count}"
        taken |= own
        names[task] = name
    return names
