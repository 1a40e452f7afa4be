"""Everything that follows from a run's rows: summary, recommendation, findings, figures. Needs no model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.analysis.recommendation import recommend, recommendation_json
from xmflow_jax.analysis.summary import TAU, Resampling, summarize
from xmflow_jax.errors import RunFolderError
from xmflow_jax.report.curves import DELTA_ACCURACY, RELATIVE_CHANGE, draw_overview, draw_task_curves
from xmflow_jax.report.heat_maps import draw_heat_maps
from xmflow_jax.results import read_record, read_rows, write_atomically

# Where a session's provenance holds the fields of its `ModelShape`.
SHAPE_KEY = "model_shape"


@dataclass(frozen=True)
class Rebuilt:
    """What was made of a run's rows.

    Attributes:
        summary: the content of `summary.csv`.
        figures: the files drawn.
        lines: the three findings, in plain words.
    """

    summary: pd.DataFrame
    figures: tuple[Path, ...]
    lines: tuple[str, ...]


def rebuild(folder: Path, rows: pd.DataFrame, shape: ModelShape | None, seed: int, tau: float = TAU) -> Rebuilt:
    """Write `summary.csv`, `recommendation.json` and the figures of a run folder anew from its rows.

    Args:
        rows: the run's (`xmflow_jax.results.read_rows`).
        shape: of model and prompt, for what pruning saves; None leaves that out.
        seed: of the intervals; the same seed gives the same bytes.
        tau: percentage points that a critical layer's accuracy drop exceeds.

    Raises:
        RunFolderError: a file cannot be written.
    """
    resampling = Resampling(seed=seed)
    summary = summarize(rows, tau, resampling)
    write_atomically(folder / "summary.csv", summary.to_csv(index=False).encode())
    if not len(summary):
        return Rebuilt(summary, (), ("No question has rows, so there is nothing to find.",))
    recommendation = recommend(rows, summary, shape, tau, resampling=resampling)
    write_atomically(folder / "recommendation.json", recommendation_json(recommendation).encode())
    reading = () if shape is None else shape.cross_attention_layers
    # Dotted lines say which layers read the image by cross-attention; in a model where all of them do they say nothing.
    dotted = () if shape is not None and len(reading) == shape.layers else reading
    figures: list[Path] = []
    for measure in (RELATIVE_CHANGE, DELTA_ACCURACY):
        figures += draw_task_curves(summary, folder / "figures", measure, dotted)
        figures += draw_overview(summary, folder / "figures" / "overview", measure, dotted)
    figures += draw_heat_maps(summary, folder / "figures")
    return Rebuilt(summary, tuple(figures), findings(recommendation).lines())


def rebuild_from_folder(folder: Path, tau: float = TAU) -> Rebuilt:
    """As `rebuild`, all of it from what lies in a run folder.

    Raises:
        RunFolderError: the folder holds no run, or its parts are damaged.
    """
    record = read_record(folder)
    if record is None:
        raise RunFolderError(f"{folder} holds no run.json; expected a folder that a sweep wrote")
    (folder / "figures").mkdir(exist_ok=True)
    seed = int(record["configuration"].get("seed", 0))
    return rebuild(folder, read_rows(folder), stored_shape(record), seed, tau)


def stored_shape(record: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a run's last session recorded, if any did."""
    for session in reversed(record["sessions"]):
        fields = session.get(SHAPE_KEY)
        if fields is not None:
            layers = tuple(fields["cross_attention_layers"])
            return ModelShape(**{**fields, "cross_attention_layers": layers})
    return None
