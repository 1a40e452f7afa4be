"""The study's line figures: what blocking each pathway around each layer does to the answer.

One figure per task and measure, and an overview of each measure with a small panel per task. They show a measure of the
summary table (`xmflow_jax.analysis.summary`), which is their only input; bands are the 95 % intervals, and rings are
critical layers.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from xmflow_jax.analysis.curve import curves_of, of_curve
from xmflow_jax.measures.measure import Measure
from xmflow_jax.measures.probability import PROBABILITY
from xmflow_jax.measures.registry import is_measured
from xmflow_jax.report.figures.backend import new_figure
from xmflow_jax.report.figures.files import figure_names, figure_style, save_figure
from xmflow_jax.report.figures.looks import curve_label, curve_looks, in_legend_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What else than lines of pathways is drawn, by the artists' gid.
BAND: Final = "interval"
CRITICAL: Final = "critical"
CONTROL: Final = "matched control"
CROSS_ATTENTION: Final = "cross-attention"

# The study's own windows are centred; another style is told by the line and named in the legend.
_LINES: Final = {"centred": "-", "from-start": "--", "to-end": "-.", "single": ":"}


def draw_task_curves(
    summary: pd.DataFrame,
    folder: Path,
    measure: Measure = PROBABILITY,
    cross_attention_layers: Sequence[int] = (),
) -> list[Path]:
    """Write `<task>.png` and `<task>.pdf` for every task of the summary; returns the paths in the tasks' order.

    A task's name is made safe for files by `figure_names`, and the measure's suffix stands behind it, such as
    `<task>-accuracy`. A task that has no number of the measure gets no files.

    Args:
        summary: what `summarize` returned, whole, so that colours agree between tasks.
        folder: an existing folder.
        measure: what is drawn.
        cross_attention_layers: drawn as dotted lines, where the model reads the image in some layers only.

    Raises:
        RunFolderError: a file cannot be written.
    """
    paths = []
    for task, name in figure_names(summary["task"]).items():
        if is_measured(measure, summary[summary["task"] == task]):
            figure = task_figure(summary, task, measure, cross_attention_layers)
            paths += save_figure(figure, folder, name + measure.suffix)
    return paths


def draw_overview(
    summary: pd.DataFrame,
    path: Path,
    measure: Measure = PROBABILITY,
    cross_attention_layers: Sequence[int] = (),
) -> list[Path]:
    """Write the figure of all tasks as PNG and PDF; returns their paths. No number of the measure, no files.

    Args:
        summary: what `summarize` returned.
        path: `figures/overview`, with either suffix or none; its folder exists. The measure's own suffix is put behind
            the name, such as `overview-accuracy`.
        measure: what is drawn.
        cross_attention_layers: drawn as dotted lines, where the model reads the image in some layers only.

    Raises:
        RunFolderError: a file cannot be written.
    """
    if not is_measured(measure, summary):
        return []
    name = path.stem if path.suffix in (".png", ".pdf") else path.name
    figure = overview_figure(summary, measure, cross_attention_layers)
    return save_figure(figure, path.parent, name + measure.suffix)


def task_figure(
    summary: pd.DataFrame, task: str, measure: Measure = PROBABILITY, cross_attention_layers: Sequence[int] = ()
) -> "Figure":
    """The figure of one task: a line per pathway and window style, and a band where the summary has intervals.

    Raises:
        ValueError: the summary has no rows of this task.
    """
    if not (summary["task"] == task).any():
        raise ValueError(f"the summary has no task {task!r}; it has {', '.join(sorted(set(summary['task'])))}")

    with figure_style():
        figure = new_figure(7.0, 3.8)
        axes = figure.add_subplot()
        _draw_lines(axes, summary, task, measure, marker_size=4.0, title_characters=70)
        set_layer_ticks(axes, summary, most=17)
        mark_layers(axes, cross_attention_layers)
        axes.set_xlabel("Layer")
        axes.set_ylabel(axis_label(measure))
        add_legend(figure, [axes], characters=100)
    return figure


def overview_figure(
    summary: pd.DataFrame, measure: Measure = PROBABILITY, cross_attention_layers: Sequence[int] = ()
) -> "Figure":
    """All tasks that have a number of the measure in one figure: small panels with the same axes, one legend.

    Raises:
        ValueError: the summary has no number of the measure.
    """

    tasks = sorted(str(task) for task, own in summary.groupby("task") if is_measured(measure, own))
    if not tasks:
        raise ValueError(f"the summary has no {measure.name}")
    columns = 2 if len(tasks) == 4 else min(len(tasks), 3)
    rows = math.ceil(len(tasks) / columns)
    with figure_style():
        figure = new_figure(max(3.4 * columns, 7.0), 2.6 * rows + 0.4)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels: list[Axes] = list(grid.flat)
        for place, (axes, task) in enumerate(zip(panels, tasks, strict=False)):
            _draw_lines(axes, summary, task, measure, marker_size=2.5, title_characters=36)
            set_layer_ticks(axes, summary, most=9)
            mark_layers(axes, cross_attention_layers)
            if place + columns >= len(tasks):  # nothing below it
                axes.set_xlabel("Layer")
                axes.tick_params(labelbottom=True)
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel(axis_label(measure))
        add_legend(figure, panels, characters=45 * max(columns, 2))
    return figure


def axis_label(measure: Measure, characters: int = 32) -> str:
    """Label and unit of a measure, in lines that a panel is high enough for."""
    return "\n".join(textwrap.wrap(measure.axis, characters))


def _draw_lines(
    axes: "Axes", summary: pd.DataFrame, task: str, measure: Measure, marker_size: float, title_characters: int
) -> None:
    here = summary[summary["task"] == task]
    axes.axhline(0, color="0.5", linewidth=0.8, zorder=1)
    looks = curve_looks(curve.subject for curve in curves_of(summary))
    for curve in in_legend_order(curves_of(here)):
        line, (colour, marker) = of_curve(here, curve), looks[curve.subject]
        layers, values = line["layer"].to_numpy(), line[measure.key].to_numpy(float)
        axes.plot(
            layers,
            values,
            color=colour,
            linestyle=_LINES.get(curve.style, "-"),
            linewidth=1.5,
            marker=marker,
            markersize=marker_size,
            markeredgewidth=0,
            label=plain_text(curve_label(curve)),
            zorder=3,
        )
        low, high = line[measure.low].to_numpy(float), line[measure.high].to_numpy(float)
        finite = np.isfinite(low) & np.isfinite(high)
        if finite.any():
            band = axes.fill_between(layers, low, high, where=list(finite), color=colour, alpha=0.2, linewidth=0)
            band.set(zorder=2, gid=BAND)
        if measure.control in line and line[measure.control].notna().any():
            control = line[measure.control].to_numpy(float)
            (dots,) = axes.plot(layers, control, color=colour, linestyle=":", linewidth=1.2, zorder=2)
            dots.set_gid(CONTROL)
        critical = line["critical"].to_numpy(bool) & np.isfinite(values)
        if critical.any():
            size = (2.2 * marker_size) ** 2
            rings = axes.scatter(layers[critical], values[critical], s=size, facecolors="none", edgecolors=colour)
            rings.set(zorder=4, gid=CRITICAL, linewidth=0.9)
    title = f"{task} (n = {questions_text(here, measure)})"
    axes.set_title(plain_text("\n".join(textwrap.wrap(title, title_characters))))


def questions_text(summary: pd.DataFrame, measure: Measure) -> str:
    """How many questions a measure's numbers are of: `30`, or `28–30` where that differs between them."""
    least, most = summary[measure.number].min(), summary[measure.number].max()
    return str(least) if least == most else f"{least}–{most}"


def mark_layers(axes: "Axes", layers: Sequence[int]) -> None:
    """Dotted lines at the layers that read the image by cross-attention."""
    for layer in layers:
        axes.axvline(layer, color="0.6", linewidth=0.9, linestyle=":", zorder=0).set_gid(CROSS_ATTENTION)


def set_layer_ticks(axes: "Axes", summary: pd.DataFrame, most: int) -> None:
    """Ticks at whole layers, at most so many, on the multiples of a power of two; the same for every task."""
    first, last = int(summary["layer"].min()), int(summary["layer"].max())
    step = 1
    while (last - first) // step + 1 > most:
        step *= 2
    axes.set_xticks(range(first + -first % step, last + 1, step))
    axes.set_xlim(first - 0.5, last + 0.5)


def add_legend(figure: "Figure", panels: Sequence["Axes"], characters: int) -> None:
    """Below the axes, where it can hide no line; as many columns as fit `characters` in a row."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    # From all panels: a task may lack a pathway that another has.
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    drawn = {artist.get_gid() for axes in panels for artist in (*axes.collections, *axes.lines)}
    if BAND in drawn:
        entries["95 % interval"] = Patch(color="0.5", alpha=0.3, linewidth=0)
    if CRITICAL in drawn:
        entries["critical layer"] = Line2D(
            [], [], linestyle="", marker="o", color="0.3", markersize=8, fillstyle="none"
        )
    if CONTROL in drawn:
        entries["matched control"] = Line2D([], [], color="0.3", linewidth=1.2, linestyle=":")
    if CROSS_ATTENTION in drawn:
        entries["cross-attention layer"] = Line2D([], [], color="0.6", linewidth=0.9, linestyle=":")
    columns = min(max(characters // (max(map(len, entries)) + 6), 1), 3, len(entries))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.2 * math.ceil(len(entries) / columns))  # the panels keep their height
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def plain_text(text: str) -> str:
    """The text as matplotlib is to draw it: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
