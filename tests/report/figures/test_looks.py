"""Names and looks of curves of every kind, and the figures that hold them."""

import pandas as pd

from tests.report.figures.test_curves import legend_texts, lines, summary
from xmflow_jax.analysis.curve import Curve, curves_of
from xmflow_jax.report.figures.curves import task_figure
from xmflow_jax.report.figures.heat_maps import heat_map_figure
from xmflow_jax.report.figures.looks import curve_label, curve_looks, in_legend_order
from xmflow_jax.run.row_words import EDGES, KEEP_ONLY, OUTPUT


def every_kind() -> pd.DataFrame:
    blocked = summary(pathways=("Image->Question", "Question->Last"), layers=3)
    kept = summary(pathways=("Image->Question",), layers=3).assign(kind=KEEP_ONLY, relative_change=-7.0)
    zeroed = summary(pathways=("self:Image",), layers=3).assign(kind=OUTPUT, mode="zero", relative_change=-3.0)
    return pd.concat([blocked, kept, zeroed], ignore_index=True)


LABELS = ["Image ↛ Question", "Question ↛ Last", "only Image → Question", "self output of Image"]


def test_labels_say_what_was_done() -> None:
    assert [curve_label(curve) for curve in in_legend_order(curves_of(every_kind()))] == LABELS
    assert curve_label(Curve(EDGES, "zero", "Image->Last", "to-end")) == "Image ↛ Last (zero, to-end)"


def test_a_kept_pathway_does_not_look_like_a_blocked_one() -> None:
    looks = curve_looks(curve.subject for curve in curves_of(every_kind()))
    assert len(set(looks.values())) == 4


def test_figures_hold_a_line_and_a_row_of_each() -> None:
    table = every_kind()
    figure = task_figure(table, "ChooseAttr")
    drawn = lines(figure.axes[0])
    assert legend_texts(figure) == list(drawn) == LABELS
    assert drawn[LABELS[2]][:, 1].tolist() == [-7.0] * 3
    assert drawn[LABELS[3]][:, 1].tolist() == [-3.0] * 3
    rows = heat_map_figure(table, "ChooseAttr").axes[0].get_yticklabels()
    assert [text.get_text().replace("\n", " ") for text in rows] == LABELS
