"""The figure of answer tracking: how probable the answer is after every layer, read by the logit lens.

Two panels per task: above as in the study, without the final norm, below with it. A line per followed word: the answer,
its capitalised form, and the same forms of the false option where questions name one; bands are 95 % intervals.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from xmflow_jax.report.figures.backend import new_figure
from xmflow_jax.report.figures.curves import BAND, add_legend, mark_layers, plain_text, set_layer_ticks
from xmflow_jax.report.figures.files import ANSWER_TRACKING, figure_style, save_figure
from xmflow_jax.run.schemas import TRACKED, TRACKED_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour, line and marker of each followed word (`TRACKED`, in its order). Capitalised forms have broken lines.
BROKEN: Final = "--"
LOOKS: Final = dict(
    zip(
        TRACKED,
        (("#0072B2", "-", "o"), ("#56B4E9", BROKEN, "s"), ("#D55E00", "-", "^"), ("#E69F00", BROKEN, "v")),
        strict=True,
    )
)
_LABELS: Final = {False: "Probability, raw", True: "Probability, normed"}


def draw_answer_tracking(
    tracking: pd.DataFrame, folder: Path, cross_attention_layers: Sequence[int] = ()
) -> list[Path]:
    """Write `answer_tracking.png` and `.pdf`; returns their paths. No rows, no files.

    Args:
        tracking: what `xmflow_jax.analysis.answer_tracking.track_answers` returned.
        folder: an existing folder.
        cross_attention_layers: drawn as dotted lines, where the model reads the image in some layers only.

    Raises:
        RunFolderError: a file cannot be written.
    """
    if tracking.empty:
        return []
    return save_figure(answer_tracking_figure(tracking, cross_attention_layers), folder, ANSWER_TRACKING)


def answer_tracking_figure(tracking: pd.DataFrame, cross_attention_layers: Sequence[int] = ()) -> "Figure":
    """All tasks in one figure, from the embedding (layer -1) to the last layer.

    Raises:
        ValueError: there are no rows.
    """

    tasks = sorted(set(tracking["task"]))
    if not tasks:
        raise ValueError("there are no lens rows")
    columns = 2 if len(tasks) == 4 else min(len(tasks), 3)
    rows = math.ceil(len(tasks) / columns)
    with figure_style():
        figure = new_figure(max(3.4 * columns, 7.0), 4.4 * rows + 0.4)
        grid = figure.subplots(2 * rows, columns, sharex=True, sharey=True, squeeze=False)
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            raw, normed = grid[2 * row : 2 * row + 2, column]
            if place >= len(tasks):
                raw.set_visible(False)
                normed.set_visible(False)
                continue
            here = tracking[tracking["task"] == tasks[place]]
            for axes, by_norm in ((raw, False), (normed, True)):
                _draw_words(axes, here[here["normed"] == by_norm])
                set_layer_ticks(axes, tracking, most=9)
                mark_layers(axes, cross_attention_layers)
                if column == 0:
                    axes.set_ylabel(_LABELS[by_norm])
            raw.set_title(plain_text("\n".join(textwrap.wrap(f"{tasks[place]} (n = {here['n'].max()})", 36))))
            normed.set_xlabel("After layer")
            normed.tick_params(labelbottom=True)
        add_legend(figure, list(grid.flat), characters=45 * max(columns, 2))
    return figure


def _draw_words(axes: "Axes", here: pd.DataFrame) -> None:
    for word, (colour, line, marker) in LOOKS.items():
        own = here[here["word"] == word].sort_values("layer")
        if own.empty:
            continue
        layers = own["layer"].to_numpy()
        axes.plot(
            layers,
            own["probability"].to_numpy(),
            color=colour,
            linestyle=line,
            linewidth=1.5,
            marker=marker,
            markersize=2.5,
            markeredgewidth=0,
            label=TRACKED_LABELS[word],
            zorder=3,
        )
        low, high = own["low"].to_numpy(), own["high"].to_numpy()
        finite = np.isfinite(low) & np.isfinite(high)
        if finite.any():
            band = axes.fill_between(layers, low, high, where=list(finite), color=colour, alpha=0.2, linewidth=0)
            band.set(zorder=2, gid=BAND)
    axes.set_ylim(-0.03, 1.03)
