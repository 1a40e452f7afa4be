"""Everything that a run says in short: critical layers, stages, and what of the image's attention can go.

The content of `recommendation.json`.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd

from xmflow_jax.analysis.critical import CriticalLayers, critical_layers
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.analysis.power import Power, find_power
from xmflow_jax.analysis.pruning import COST, Pruning, find_pruning
from xmflow_jax.analysis.question_matrix import pathway_rows, pool_tasks
from xmflow_jax.analysis.stages import TaskStages, find_stages
from xmflow_jax.analysis.summary import TAU, Resampling, summarize
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.probability import PROBABILITY

# What critical layers and stages are read from.
_READ: Final = (ACCURACY, PROBABILITY)


@dataclass(frozen=True)
class Recommendation:
    """What `recommend` found.

    Attributes:
        tau: percentage points that a critical layer's accuracy drop exceeds.
        resampling: how intervals and bounds were made.
        critical: every curve; those of all tasks together, under `All tasks`, only where there are several.
        stages: of every task, and of all together, as above.
        pruning: over all tasks, and of each.
        power: what the questions could have shown; of all tasks together first, as above.
    """

    tau: float
    resampling: Resampling
    critical: tuple[CriticalLayers, ...]
    stages: tuple[TaskStages, ...]
    pruning: Pruning
    power: tuple[Power, ...]


def recommend(
    rows: pd.DataFrame,
    summary: pd.DataFrame,
    shape: ModelShape | None = None,
    tau: float = TAU,
    cost: float = COST,
    resampling: Resampling | None = None,
) -> Recommendation:
    """Critical layers, stages and the pruning recommendation of a run.

    Args:
        rows: a run's rows.
        summary: `summarize(rows, tau, resampling)`.
        shape: the model's, for what the pruning saves.
        tau: that of the summary.
        cost: percentage points of accuracy that the pruning may cost.
        resampling: that of the summary; default: `Resampling()`.
    """
    resampling = resampling or Resampling()
    critical, stages = critical_layers(summary), find_stages(rows, summary, resampling)
    power = find_power(rows, resampling)
    if len(set(summary["task"])) > 1:
        pooled = pooled_rows(rows)
        together = summarize(pooled, tau, resampling, _READ)
        critical = (*critical_layers(together), *critical)
        stages = (*find_stages(pooled, together, resampling), *stages)
        power = (*find_power(pooled, resampling), *power)
    return Recommendation(tau, resampling, critical, stages, find_pruning(rows, cost, shape, resampling), power)


def pooled_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The pathways' own rows, without controls, as those of one task, `All tasks`, for `summarize`."""
    return pool_tasks(pathway_rows(rows).drop(columns="control", errors="ignore"))


def recommendation_json(recommendation: Recommendation) -> str:
    """The text of `recommendation.json`: the dataclasses' fields by their names; what is not defined is null.

    Equal recommendations give equal text.
    """
    return json.dumps(_plain(asdict(recommendation)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
