"""Everything that follows from a run's rows: summary, recommendation, findings, figures, page. Needs no model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from xmflow_jax.analysis.answer_tracking import track_answers
from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.heads import summarize_heads
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.analysis.question_matrix import pool_tasks
from xmflow_jax.analysis.recommendation import Recommendation, recommend, recommendation_json
from xmflow_jax.analysis.summary import TAU, Resampling, summarize
from xmflow_jax.measures.measure import CURVES, HEAT_MAPS
from xmflow_jax.measures.registry import measures_in
from xmflow_jax.report.figures.answer_tracking import draw_answer_tracking
from xmflow_jax.report.figures.curves import draw_overview, draw_task_curves
from xmflow_jax.report.figures.heat_maps import draw_head_maps, draw_heat_maps
from xmflow_jax.report.page.data import run_data
from xmflow_jax.report.page.pages import run_page
from xmflow_jax.report.run_content import RunContent, read_content
from xmflow_jax.run.folder import make_folder, write_atomically, write_lens


@dataclass(frozen=True)
class Rebuilt:
    """What was made of a run's rows.

    Attributes:
        summary: the content of `summary.csv`.
        figures: the files drawn.
        lines: the three findings, in plain words; then what could not be made, and why.
        page: `report.html`.
        data: what the page shows (`xmflow_jax.report.page.data.run_data`).
        damage: what of the folder is missing or damaged, a sentence without full stop each.
    """

    summary: pd.DataFrame
    figures: tuple[Path, ...]
    lines: tuple[str, ...]
    page: Path
    data: dict[str, Any]
    damage: tuple[str, ...]


def rebuild(folder: Path, rows: pd.DataFrame, shape: ModelShape | None, seed: int, tau: float = TAU) -> Rebuilt:
    """Write `summary.csv`, `recommendation.json`, `lens.parquet`, the figures and `report.html` of a run folder anew;
    and `heads.csv`, where heads were blocked one by one.

    Args:
        rows: the run's (`xmflow_jax.run.folder.read_rows`).
        shape: of model and prompt, for what pruning saves; None leaves that out.
        seed: of the intervals; the same seed gives the same bytes.
        tau: percentage points that a critical layer's accuracy drop exceeds.

    Raises:
        RunFolderError: a file cannot be written.
    """
    return _rebuild(replace(read_content(folder), rows=rows), shape, seed, tau)


def _rebuild(content: RunContent, shape: ModelShape | None, seed: int, tau: float) -> Rebuilt:
    folder, rows = content.folder, content.rows
    resampling = Resampling(seed=seed)
    summary = summarize(rows, tau, resampling)
    write_atomically(folder / "summary.csv", summary.to_csv(index=False).encode())
    if not len(summary):
        page, data = _write_page(content, summary, None, None)
        line = "No question has rows, so there is nothing to find."
        return Rebuilt(summary, (), (line,), page, data, content.damage)
    recommendation = recommend(rows, summary, shape, tau, resampling=resampling)
    write_atomically(folder / "recommendation.json", recommendation_json(recommendation).encode())
    reading = () if shape is None else shape.cross_attention_layers
    # Dotted lines say which layers read the image by cross-attention; in a model where all of them do they say nothing.
    dotted = () if shape is not None and len(reading) == shape.layers else reading
    figures: list[Path] = []
    for measure in measures_in(CURVES):
        figures += draw_task_curves(summary, folder / "figures", measure, dotted)
        figures += draw_overview(summary, folder / "figures" / "overview", measure, dotted)
    for measure in measures_in(HEAT_MAPS):
        figures += draw_heat_maps(summary, folder / "figures", measure)
    heads = summarize_heads(rows, tau, resampling)
    if len(heads):
        write_atomically(folder / "heads.csv", heads.to_csv(index=False).encode())
        for measure in measures_in(HEAT_MAPS):
            figures += draw_head_maps(heads, folder / "figures", measure)
        heads = _with_all_tasks(heads, rows, partial(summarize_heads, tau=tau, resampling=resampling))
    tracking = None if content.lens.empty else track_answers(content.lens, seed=seed, rows=rows)
    missing: tuple[str, ...] = ()
    if tracking is None:
        missing = ("Answer tracking is left out: the run holds no lens rows.",)
    else:
        write_lens(folder, content.lens)
        figures += draw_answer_tracking(tracking, folder / "figures", dotted)
    shown = _with_all_tasks(summary, rows, partial(summarize, tau=tau, resampling=resampling))
    page, data = _write_page(content, shown, recommendation, tracking, heads)
    lines = findings(recommendation).lines() + missing
    return Rebuilt(summary, tuple(figures), lines, page, data, content.damage)


def _with_all_tasks(
    summary: pd.DataFrame, rows: pd.DataFrame, find: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """With what is found of all tasks together, from which the findings are told, where there are several tasks."""
    if summary["task"].nunique() < 2:
        return summary
    return pd.concat([find(pool_tasks(rows)), summary], ignore_index=True)


def _write_page(
    content: RunContent,
    summary: pd.DataFrame,
    recommendation: Recommendation | None,
    tracking: pd.DataFrame | None,
    heads: pd.DataFrame | None = None,
) -> tuple[Path, dict[str, Any]]:
    data = run_data(content, summary, recommendation, tracking, heads)
    path = content.folder / "report.html"
    write_atomically(path, run_page(data).encode())
    return path, data


def rebuild_from_folder(folder: Path, tau: float = TAU) -> Rebuilt:
    """As `rebuild`, all of it from what lies in a run folder; what is damaged there is left out and told.

    Raises:
        RunFolderError: the folder holds no run, or a file cannot be written.
    """
    content = read_content(folder)
    make_folder(folder / "figures")
    return _rebuild(content, content.shape, content.seed, tau)
