"""The figures of several runs side by side: a figure per task, a panel per pathway, a line per run.

They show what the page of the same runs shows, from the same data (`xmflow_jax.report.comparison.comparison_data`), by
layer or, so that models of different depth can be laid over each other, in percent of the depth: 0 is a model's first
layer and 100 its last.
"""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xmflow_jax.measures.measure import COMPARISON, Measure
from xmflow_jax.measures.probability import PROBABILITY
from xmflow_jax.measures.registry import measures_in
from xmflow_jax.report.figures.backend import new_figure
from xmflow_jax.report.figures.curves import (
    BAND,
    CRITICAL,
    add_legend,
    axis_label,
    plain_text,
)
from xmflow_jax.report.figures.files import figure_names, figure_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYER: Final = "layer"
PERCENT: Final = "percent"
DEPTHS: Final = (LAYER, PERCENT)

# (colour, marker) of the runs, in the order in which they were given: those of the page.
_LOOKS: Final = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#B8860B", "v"),
    ("#3A9BD1", "P"),
    ("#882255", "<"),
    ("#6B6B67", ">"),
)


def draw_comparison(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a figure as PNG and PDF for every task and measure that any run has; returns the paths.

    The measure's suffix stands behind the task's name: `<task>.png`, `<task>-accuracy.png`.

    Args:
        data: of `comparison_data`.
        folder: an existing folder.

    Raises:
        RunFolderError: a file cannot be written.
    """
    tasks = {curve["task"] for run in data["runs"] for curve in run["curves"]}
    paths = []
    for task, name in figure_names(tasks).items():
        for measure in measures_in(COMPARISON):
            if _curves(data, task, measure):
                paths += save_figure(comparison_figure(data, task, measure), folder, name + measure.suffix)
    return paths


def comparison_figure(data: Mapping[str, Any], task: str, measure: Measure = PROBABILITY) -> "Figure":
    """The figure of one task and measure.

    Raises:
        ValueError: no run has such curves.
    """

    curves = _curves(data, task, measure)
    if not curves:
        raise ValueError(f"no run has curves of task {task!r}")
    order = {subject: place for place, subject in enumerate(data["subjects"])}
    labels = list(dict.fromkeys(own["label"] for _, own in sorted(curves, key=lambda one: order[one[1]["subject"]])))
    columns = {1: 1, 2: 2, 4: 2}.get(len(labels), 3 if len(labels) < 7 else 4)
    rows = math.ceil(len(labels) / columns)
    with figure_style():
        figure = new_figure(max(3.4 * columns, 7.0), 2.6 * rows + 0.8)
        panels: list[Axes] = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        figure.suptitle(plain_text("\n".join(textwrap.wrap(task, 34 * max(columns, 2)))), fontsize=12)
        for place, (axes, label) in enumerate(zip(panels, labels, strict=False)):
            axes.axhline(0, color="0.5", linewidth=0.8, zorder=1)
            for number, curve in curves:
                if curve["label"] == label:
                    _draw_run(axes, data, number, curve, measure)
            axes.set_title(plain_text("\n".join(textwrap.wrap(label, 36))))
            if place + columns >= len(labels):  # nothing below it
                axes.set_xlabel("Depth (%)" if data["depth"] == PERCENT else "Layer")
                axes.tick_params(labelbottom=True)
        for axes in panels[len(labels) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel(axis_label(measure))
        _set_ticks(panels[0], data)
        add_legend(figure, panels, characters=45 * max(columns, 2))
    return figure


def _curves(data: Mapping[str, Any], task: str, measure: Measure) -> list[tuple[int, Mapping[str, Any]]]:
    """(the run's place, the curve) of every curve that has the measure."""
    return [
        (place, curve)
        for place, run in enumerate(data["runs"])
        for curve in run["curves"]
        if curve["task"] == task and measure.key in curve["measures"]
    ]


def depth_of(layer: float, layers: int) -> float:
    """Percent: 0 is the first layer, 100 the last; the only layer of a model is its first."""
    return 100 * layer / (layers - 1) if layers > 1 else 0.0


def _draw_run(axes: "Axes", data: Mapping[str, Any], number: int, curve: Mapping[str, Any], measure: Measure) -> None:
    run, own = data["runs"][number], curve["measures"][measure.key]
    colour, marker = _LOOKS[number % len(_LOOKS)]
    percent = data["depth"] == PERCENT
    x = np.array([depth_of(layer, run["layers"]) if percent else layer for layer in curve["layer"]], float)
    value, low, high = (np.array(own.get(name, [None] * len(x)), float) for name in ("value", "low", "high"))
    name = plain_text(textwrap.shorten(run["name"], 60))
    axes.plot(
        x, value, color=colour, marker=marker, linewidth=1.5, markersize=3, markeredgewidth=0, label=name, zorder=3
    )
    finite = np.isfinite(low) & np.isfinite(high)
    if finite.any():
        band = axes.fill_between(x, low, high, where=list(finite), color=colour, alpha=0.2, linewidth=0)
        band.set(zorder=2, gid=BAND)
    critical = np.array(curve["critical"], bool) & np.isfinite(value)
    if critical.any():
        rings = axes.scatter(x[critical], value[critical], s=44, facecolors="none", edgecolors=colour)
        rings.set(zorder=4, gid=CRITICAL, linewidth=0.9)


def _set_ticks(axes: "Axes", data: Mapping[str, Any]) -> None:
    """Of all panels, which share their axes."""
    if data["depth"] == PERCENT:
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlim(-4, 104)
        return
    deepest = max(run["layers"] for run in data["runs"])
    step = 1
    while (deepest - 1) // step + 1 > 9:
        step *= 2
    axes.set_xticks(range(0, deepest, step))
    axes.set_xlim(-0.5, deepest - 0.5)
