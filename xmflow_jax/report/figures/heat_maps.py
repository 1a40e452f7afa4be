"""Heat maps of a summary: pathway by layer, and head by layer where heads were knocked out one by one.

All tasks share one colour scale; white is no effect, red is harm, grey was not measured; dots are critical layers.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from xmflow_jax.analysis.curve import curves_of, of_curve
from xmflow_jax.measures.measure import FALLS, RISES, Measure
from xmflow_jax.measures.probability import PROBABILITY
from xmflow_jax.measures.registry import is_measured
from xmflow_jax.report.figures.curves import (
    CRITICAL,
    axis_label,
    plain_text,
    questions_text,
)
from xmflow_jax.report.figures.files import HEADS, HEAT_MAP, figure_names, figure_style, save_figure
from xmflow_jax.report.figures.looks import curve_label, in_legend_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Harm is red: a probability that falls, an accuracy that is lost.
_COLOURS: Final = {FALLS: "RdBu", RISES: "RdBu_r"}
# A few answers that become many times likelier would leave everything else white.
_MOST: Final = 100.0


def draw_heat_maps(summary: pd.DataFrame, folder: Path, measure: Measure = PROBABILITY) -> list[Path]:
    """Write `<task>-heat-map.png` and `.pdf` for every task; returns the paths in the tasks' order.

    The measure's own suffix stands before `-heat-map`. A task that has no number of the measure gets no files.

    Args:
        summary: what `summarize` returned, whole, so that colours agree between tasks.
        folder: an existing folder.
        measure: what is drawn.

    Raises:
        RunFolderError: a file cannot be written.
    """
    return _save_by_task(summary, heat_map_figure, folder, measure, HEAT_MAP)


def draw_head_maps(heads: pd.DataFrame, folder: Path, measure: Measure = PROBABILITY) -> list[Path]:
    """Write `<task>-heads.png` and `.pdf` for every task: a panel per pathway.

    The measure's own suffix stands before `-heads`. A task that has no number of the measure gets no files.

    Args:
        heads: rows as the summary's with one more column, `head`.
        folder: an existing folder.
        measure: what is drawn.

    Raises:
        RunFolderError: a file cannot be written.
    """
    return _save_by_task(heads, head_map_figure, folder, measure, HEADS)


def _save_by_task(
    table: pd.DataFrame,
    figure_of: Callable[[pd.DataFrame, str, Measure], "Figure"],
    folder: Path,
    measure: Measure,
    ending: str,
) -> list[Path]:
    """The figure of every task that has a number of the measure."""
    return [
        path
        for task, name in figure_names(table["task"]).items()
        if is_measured(measure, table[table["task"] == task])
        for path in save_figure(figure_of(table, task, measure), folder, name + measure.suffix + ending)
    ]


def heat_map_figure(summary: pd.DataFrame, task: str, measure: Measure = PROBABILITY) -> "Figure":
    """One task: a row per curve of the summary, a column per layer.

    Raises:
        ValueError: the summary has no rows of this task.
    """
    here = _of_task(summary, task)
    curves = in_legend_order(curves_of(here))
    layers = _layers(summary)
    values, critical = (np.full((len(curves), len(layers)), fill) for fill in (np.nan, False))
    for row, curve in enumerate(curves):
        own = of_curve(here, curve)
        columns = np.searchsorted(layers, own["layer"])
        values[row, columns], critical[row, columns] = own[measure.key], own["critical"].astype(bool)
    labels = ["\n".join(textwrap.wrap(curve_label(curve), 30)) for curve in curves]
    from matplotlib.figure import Figure

    with figure_style():
        height = 0.32 * sum(label.count("\n") + 1 for label in labels)
        figure = Figure(figsize=(7.0, 1.2 + max(height, 0.6)), layout="constrained")
        axes = figure.add_subplot()
        image = _draw_map(axes, values, critical, _limit(summary, measure), measure)
        axes.set_yticks(range(len(labels)), [plain_text(label) for label in labels])
        _finish(axes, layers, f"{task} (n = {questions_text(here, measure)})")
        _add_scale(figure, image, [axes], measure)
    return figure


def head_map_figure(heads: pd.DataFrame, task: str, measure: Measure = PROBABILITY) -> "Figure":
    """One task: a panel per curve of the summary, a row per head, a column per layer.

    Raises:
        ValueError: the table has no rows of this task.
    """
    here = _of_task(heads, task)
    curves = curves_of(here)
    layers, numbers = _layers(heads), np.unique(heads["head"])
    columns = min(len(curves), 2)
    rows = math.ceil(len(curves) / columns)
    from matplotlib.figure import Figure

    with figure_style():
        height = min(1.0 + 0.14 * len(numbers), 5.0)
        figure = Figure(figsize=(max(3.8 * columns, 5.0), rows * height + 0.4), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        panels: list[Axes] = list(grid.flat)
        for axes, curve in zip(panels, curves, strict=False):
            own = of_curve(here, curve)
            values, critical = (np.full((len(numbers), len(layers)), fill) for fill in (np.nan, False))
            places = np.searchsorted(numbers, own["head"]), np.searchsorted(layers, own["layer"])
            values[places], critical[places] = own[measure.key], own["critical"].astype(bool)
            image = _draw_map(axes, values, critical, _limit(heads, measure), measure)
            step = _step(len(numbers), 9)
            axes.set_yticks(range(0, len(numbers), step), [str(head) for head in numbers[::step]])
            axes.set_ylabel("Head")
            _finish(axes, layers, curve_label(curve))
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        figure.suptitle(
            plain_text("\n".join(textwrap.wrap(f"{task} (n = {questions_text(here, measure)})", 70))), fontsize=11
        )
        _add_scale(figure, image, panels[: len(curves)], measure)
    return figure


def _of_task(table: pd.DataFrame, task: str) -> pd.DataFrame:
    if not (table["task"] == task).any():
        raise ValueError(f"the table has no task {task!r}; it has {', '.join(sorted(set(table['task'])))}")
    return table[table["task"] == task]


def _layers(table: pd.DataFrame) -> np.ndarray:
    return np.arange(table["layer"].min(), table["layer"].max() + 1)


def _limit(table: pd.DataFrame, measure: Measure) -> float:
    values = np.abs(table[measure.key].to_numpy(float))
    largest = float(values[np.isfinite(values)].max(initial=0.0))
    return min(largest, _MOST) or 1.0


def _draw_map(
    axes: "Axes",
    values: Float[np.ndarray, "rows layers"],
    critical: Bool[np.ndarray, "rows layers"],
    limit: float,
    measure: Measure,
) -> Any:
    axes.set_facecolor("0.85")
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=_COLOURS[measure.harm],
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
    )
    places = np.argwhere(critical & np.isfinite(values))
    if len(places):
        dots = axes.scatter(
            places[:, 1], places[:, 0], s=14, color="black", edgecolors="white", linewidths=0.6, zorder=3
        )
        dots.set_gid(CRITICAL)
    return image


def _finish(axes: "Axes", layers: np.ndarray, title: str) -> None:
    step = _step(len(layers), 17)
    axes.set_xticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    axes.set_xlabel("Layer")
    axes.set_title(plain_text("\n".join(textwrap.wrap(title, 60))))
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def _step(count: int, most: int) -> int:
    step = 1
    while (count - 1) // step + 1 > most:
        step *= 2
    return step


def _add_scale(figure: "Figure", image: Any, panels: Sequence["Axes"], measure: Measure) -> None:
    values = np.concatenate(
        [np.ma.masked_invalid(np.ma.asarray(axes.images[0].get_array())).compressed() for axes in panels]
    )
    over, under = (values > image.norm.vmax).any(), (values < image.norm.vmin).any()
    extend = {(False, False): "neither", (True, False): "max", (False, True): "min", (True, True): "both"}
    bar = figure.colorbar(image, ax=list(panels), extend=extend[bool(over), bool(under)], shrink=0.9)
    bar.set_label(axis_label(measure))
    bar.outline.set_visible(False)
