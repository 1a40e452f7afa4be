"""Several runs on one page: models, tasks and templates side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xmflow_jax.report.curves import pathway_looks
from xmflow_jax.report.page import comparison_page
from xmflow_jax.results import make_folder, write_atomically

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


def write_comparison(path: Path, runs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write the page of several runs.

    Args:
        path: of the file; its folder is made if need be.
        runs: each run folder's `xmflow_jax.report.page_data.run_data`.

    Raises:
        RunFolderError: it cannot be written.
    """
    data = comparison_data(list(runs.values()), _names(list(runs)))
    make_folder(path.parent)
    write_atomically(path, comparison_page(data).encode())


def comparison_data(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """What the page shows, as JSON values.

    Args:
        runs: the pages' data of the runs.
        names: of the runs, all different.
    """
    measures = {one["key"]: one for run in runs for one in run["measures"]}
    return {
        "runs": [{"name": name, **{key: run[key] for key in _KEPT}} for name, run in zip(names, runs, strict=True)],
        "pathways": list(pathway_looks(pathway for run in runs for pathway in run["pathways"])),
        "measures": list(measures.values()),
    }


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of their parents as tell them apart."""
    paths = [folder.absolute().parts for folder in folders]
    for kept in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-kept:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return names
