"""Several runs side by side, models, tasks and templates: one page, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from xmflow_jax.analysis.curve import CURVE, Curve
from xmflow_jax.analysis.paired_runs import DIFFERENCE_COLUMNS, paired_differences
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.report.figures.comparison import LAYER, PERCENT, draw_comparison
from xmflow_jax.report.figures.looks import curve_looks
from xmflow_jax.report.page.pages import comparison_page
from xmflow_jax.run.folder import make_folder, write_atomically

PAGE: Final = "comparison.html"
DIFFERENCES: Final = "differences.csv"
ALPHA: Final = 0.05

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
    "images_answered",
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
    """What was written: the page, the figures' files, and the differences of runs on the same questions.

    Attributes:
        differences: None without rows.
        lines: a sentence about each run after the first, beside the first.
    """

    page: Path
    figures: tuple[Path, ...]
    differences: Path | None = None
    lines: tuple[str, ...] = ()


def write_comparison(
    folder: Path,
    runs: Mapping[Path, Mapping[str, Any]],
    depth: str | None = None,
    rows: Mapping[Path, pd.DataFrame] | None = None,
) -> Comparison:
    """Write `comparison.html` and `figures/` of several runs and, with their rows, `differences.csv`: every run after
    the first minus the first, on the questions that both have.

    Args:
        folder: made if need be.
        runs: each run folder's `xmflow_jax.report.page.data.run_data`.
        depth: `LAYER` or `PERCENT`, as for `comparison_data`.
        rows: of every run.

    Raises:
        RunFolderError: a file cannot be written.
    """
    data = comparison_data(list(runs.values()), _names(list(runs)), depth)
    make_folder(folder / "figures")
    path: Path | None = None
    lines: tuple[str, ...] = ()
    if rows is not None:
        table, lines = run_differences(data, [rows[run] for run in runs])
        path = folder / DIFFERENCES
        write_atomically(path, table.to_csv(index=False).encode())
    data["differences"] = list(lines)
    write_atomically(folder / PAGE, comparison_page(data).encode())
    return Comparison(folder / PAGE, tuple(draw_comparison(data, folder / "figures")), path, lines)


def run_differences(data: Mapping[str, Any], rows: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Every run after the first beside the first: the differences on the same questions, and a sentence about each run.

    Args:
        data: `comparison_data` of the runs.
        rows: the runs' rows, in the same order.

    Returns:
        The tables of `paired_differences` below each other, with the runs' names in the columns `second_run` and
        `first_run`; of runs whose models differ in depth there is only a sentence.
    """
    first = data["runs"][0]
    tables, lines = [pd.DataFrame(columns=["second_run", "first_run", *DIFFERENCE_COLUMNS])], []
    for run, own in zip(data["runs"][1:], rows[1:], strict=True):
        lead = f"{run['name']} beside {first['name']}"
        if run["layers"] != first["layers"]:
            lines.append(f"{lead}: {run['layers']} and {first['layers']} layers are not compared one by one.")
            continue
        table = paired_differences(rows[0], own)
        lines.append(f"{lead}: {_told(table)}")
        tables.append(table.assign(second_run=run["name"], first_run=first["name"])[list(tables[0].columns)])
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0], tuple(lines)


def _told(table: pd.DataFrame) -> str:
    """Of the accuracy lost, where the runs differ most."""
    own = table[table["measure"] == ACCURACY.key]
    if own.empty:
        return "they share no question that was studied in the same place."
    most = own.iloc[int(own["difference"].abs().argmax())]
    curve, apart = Curve(*(str(most[name]) for name in CURVE)), int((own["p_holm"] <= ALPHA).sum())
    interval = "" if pd.isna(most["low"]) else f", {most['low']:.1f} to {most['high']:.1f}"
    return (
        f"paired by question, the accuracy lost differs most for {curve.name} in layer {most['layer']} of "
        f"{most['task']}, by {most['difference']:.1f} points{interval} (n = {most['n']} on {most['images']} images, "
        f"corrected p = {most['p_holm']:.2g}); {apart} of {len(own)} places differ at {100 * ALPHA:g} %, corrected "
        "over each curve's layers."
    )


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
