"""Several runs side by side, models, tasks and templates: one page, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.report.figures.comparison import LAYER, PERCENT, draw_comparison
from xmflow_jax.report.figures.looks import curve_looks
from xmflow_jax.report.page.pages import comparison_page
from xmflow_jax.run.folder import make_folder, write_atomically

PAGE: Final = "comparison.html"

# What the comparison shows of a run's page; single questions, for one, are left to that page.
_KEPT: Final = (
    "model",
    "template",
    "data",
    "damage",
    "progress",
    "findings",
    "layers",
    "questions_answered",
    "confidence",
    "tau",
    "curves",
    "critical",
    "stages",
    "pruning",
    "run",
)


@dataclass(frozen=True)
class Comparison:
    """What was written: the page, and the figures' files."""

    page: Path
    figures: tuple[Path, ...]


def write_comparison(folder: Path, runs: Mapping[Path, Mapping[str, Any]], depth: str | None = None) -> Comparison:
    """Write `comparison.html` and `figures/` of several runs.

    Args:
        folder: made if need be.
        runs: each run folder's `xmflow_jax.report.page.data.run_data`.
        depth: `LAYER` or `PERCENT`, as for `comparison_data`.

    Raises:
        RunFolderError: a file cannot be written.
    """
    data = comparison_data(list(runs.values()), _names(list(runs)), depth)
    make_folder(folder / "figures")
    write_atomically(folder / PAGE, comparison_page(data).encode())
    return Comparison(folder / PAGE, tuple(draw_comparison(data, folder / "figures")))


def comparison_data(
    runs: Sequence[Mapping[str, Any]], names: Sequence[str], depth: str | None = None
) -> dict[str, Any]:
    """What the page shows, as JSON values.

    Args:
        runs: the pages' data of the runs.
        names: of the runs, all different.
        depth: how figures tell it, and the page until the reader says otherwise: `LAYER` or `PERCENT`; None: in percent
            where the runs' models differ in depth.
    """
    known = {one["key"]: one for run in runs for one in run["measures"]}
    return {
        "runs": [{"name": name, **{key: run[key] for key in _KEPT}} for name, run in zip(names, runs, strict=True)],
        "subjects": list(curve_looks(subject for run in runs for subject in run["subjects"])),
        "measures": [known[measure.key] for measure in MEASURES if measure.key in known],
        "depth": depth or (PERCENT if len({run["layers"] for run in runs}) > 1 else LAYER),
    }


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of their parents as tell them apart."""
    paths = [folder.absolute().parts for folder in folders]
    for kept in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-kept:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return names
