"""The study's figures in its own layout: a panel for each task, the lines that belong together in one figure."""

from pathlib import Path
from typing import Final

import pandas as pd

from experiments.study.shapes import IMAGE_LAST, IMAGE_QUESTION, LAST_LAST, OBJECT, OTHERS, QUESTION_LAST
from xmflow_jax.report.figures.curves import overview_figure
from xmflow_jax.report.figures.files import save_figure

# File name, caption, pathways. The order is the study's.
SUB_ROLES: Final = (
    "Question without Options->Last",
    "True Option->Last",
    "False Option->Last",
    "Central Object->Last",
)
VIEWS: Final = ("Image Base->Question", "Image Tiles->Question", "Image Newline->Question")
FIGURES: Final = (
    ("last", "What reaches the last position", (QUESTION_LAST, IMAGE_LAST, LAST_LAST)),
    ("question", "What reaches the question from the image", (IMAGE_QUESTION,)),
    ("patches", "From the object asked about, and from all other patches", (OBJECT, OTHERS)),
    ("sub_roles", "Parts of the question to the last position", SUB_ROLES),
    ("views", "From the views of the image, where there are several", VIEWS),
)
PATHWAYS: Final = tuple(pathway for _, _, own in FIGURES for pathway in own)


def draw_figures(summary: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """Write every figure of which the summary has a line, as PNG and PDF; returns the PNG files by name.

    Args:
        folder: an existing one.

    Raises:
        RunFolderError: a file cannot be written.
    """
    drawn = {}
    for name, _, pathways in FIGURES:
        own = summary[summary["pathway"].isin(pathways) & summary["relative_change"].notna()]
        if len(own):
            drawn[name] = save_figure(overview_figure(own), folder, name)[0]
    return drawn
