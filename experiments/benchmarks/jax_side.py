"""Our side of the benchmark: the fast engine stage by stage, and the plain engine."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.matmul import matmul_rate
from experiments.benchmarks.workload import Preset, RandomQuestion, spread, study_rows
from xmflow_jax.data.batch import Batch, build_batch, in_batches, prompt_bucket
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.costs import (
    ModelCosts,
    Operations,
    executed_operations,
    model_costs,
    necessary_operations,
    usual_operations,
)
from xmflow_jax.knockout.fast.engine import Placed, assemble, encode, run_base, run_suffixes
from xmflow_jax.knockout.fast.placement import Placement, place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.measure import Measured, measure
from xmflow_jax.knockout.plain import sweep_plain
from xmflow_jax.knockout.study import Study, build_study
from xmflow_jax.machine.partitioning import DATA, MODEL
from xmflow_jax.nn.visibility import CAUSAL_BLOCK
from xmflow_jax.weights.load import LoadedModel

STAGES: Final = ("host", "image encoder", "base pass", "suffix passes", "readout")


@dataclass(frozen=True, eq=False)
class Work:
    """What is timed.

    Attributes:
        preset: of the model and of the study.
        loading: seconds that loading the model took.
        costs: of its parts.
    """

    preset: Preset
    model: LoadedModel
    loading: float
    study: Study
    costs: ModelCosts


class Run(NamedTuple):
    """The fast engine on one batch.

    Attributes:
        stages: seconds of each.
        groups: seconds of each group of configurations, by its shape.
        placement, batch: which operations it took.
        measured: on the host.
    """

    stages: dict[str, float]
    groups: dict[str, float]
    placement: Placement
    batch: Batch
    measured: Measured


class Counted(NamedTuple):
    """Operations on one batch: by stage, those of images, base pass, suffix passes and readout."""

    necessary: np.ndarray
    executed: np.ndarray
    usual: float


def run_jax(
    preset: Preset, checkpoint: Path, questions: list[RandomQuestion], batch_size: int, plain: bool, devices: int = 1
) -> dict[str, Any]:
    """Time the fast engine on fresh questions after a warm-up that compiles their shapes, then the plain one.

    Args:
        devices: that the questions of a batch are spread over; they divide it.

    Returns:
        Seconds of every stage, summed over the questions, and of the warm-up by stage; operations necessary and
        executed; the first question's measures under every configuration, as its batch gave them; seconds of one
        configuration in the plain engine, and its measures.
    """
    work = load_work(preset, checkpoint, questions[0], devices)
    batches = list(in_batches(questions, batch_size, prompt_bucket))
    start = time.perf_counter()
    compiling = summed([run_batch(work, one, compiling=True).stages for one in batches])
    warm_up = time.perf_counter() - start
    say(f"warm-up {warm_up:.1f} s: {', '.join(f'{stage} {spent:.1f}' for stage, spent in compiling.items())}")
    start = time.perf_counter()
    runs, counted = [], []
    for one in batches:
        runs.append(run_batch(work, one))
        counted.append(count_operations(work, runs[-1]))
    total = time.perf_counter() - start
    say(f"fast engine: {total / len(questions):.4f} s a question")
    found = {
        "seconds_per_question": total / len(questions),
        "stages": divided(summed([run.stages for run in runs]), len(questions)),
        "groups": divided(summed([run.groups for run in runs]), len(questions)),
        "loading_seconds": work.loading,
        "warm_up_seconds": warm_up,
        "warm_up_stages": compiling,
        "necessary": list(np.sum([one.necessary for one in counted], axis=0) / len(questions)),
        "executed": list(np.sum([one.executed for one in counted], axis=0) / len(questions)),
        "usual": sum(one.usual for one in counted) / len(questions),
        **first_measures(questions[0], batches, runs),
        "device": jax.devices()[0].device_kind,
        "matmul_rate": _matmul_rate(preset.dtype),
        "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }
    return found | (run_plain(work, questions[0], found["base_token"]) if plain and preset.plain_knockouts else {})


def load_work(preset: Preset, checkpoint: Path, question: RandomQuestion, devices: int) -> Work:
    """The model, its parameters on all devices alike, and the study."""
    if preset.dtype == "float32":
        jax.config.update("jax_default_matmul_precision", "highest")
    mesh = None
    if devices > 1:
        grid = np.array(jax.devices()[:devices])[:, None]
        mesh = jax.sharding.Mesh(grid, (DATA, MODEL), axis_types=(jax.sharding.AxisType.Auto,) * 2)
        jax.set_mesh(mesh)
    start = time.perf_counter()
    model = load_model(checkpoint, preset.dtype, mesh)
    loading = time.perf_counter() - start
    say(f"loaded in {loading:.1f} s")
    study = build_study([row.knockout for row in study_rows(preset)], model.anatomy)
    return Work(preset, model, loading, study, model_costs(model.net, question.pixels))


def run_batch(work: Work, questions: Sequence[RandomQuestion], compiling: bool = False) -> Run:
    """The fast engine's stages, one after the other, each waited for.

    Args:
        compiling: it says what takes long.
    """
    net, study, stages = work.model.net, work.study, dict.fromkeys(STAGES, 0.0)
    last = time.perf_counter()

    def lap(stage: str, result: Any = None) -> None:
        nonlocal last
        jax.block_until_ready(result)
        before, last = last, time.perf_counter()
        stages[stage] = last - before
        if compiling and last - before > 1:
            say(f"{stage}: {last - before:.1f} s, most of them compilation")

    batch = build_batch(questions)
    positions = build_positions(questions, study.actions, batch.tokens.shape[1])
    placement = place_study(study, positions, batch)
    lap("host")
    features = encode(net, batch.pixels)
    lap("image encoder", features)
    base = run_base(net, batch, features, placement.first, rows=placement.rows)
    lap("base pass", base)
    placed = Placed(net, study, batch, positions, placement)
    parts, groups = run_groups(placed, Given(base, batch, study.switches, positions))
    lap("suffix passes", parts)
    measured = jax.device_get(measure(base.logits, assemble(placed, base.logits, parts)))
    lap("readout")
    return Run(stages, groups, placement, batch, measured)


def run_groups(placed: Placed, given: Given) -> tuple[list[Any], dict[str, float]]:
    """The suffix passes: what each group gives, and seconds by the groups' shapes."""
    parts: list[Any] = []
    seconds: dict[str, float] = {}
    for group, starts in zip(placed.placement.groups, placed.placement.starts, strict=True):
        before = time.perf_counter()
        parts.append(run_suffixes(placed.net, given, group.schedule, starts, shape=group.shape))
        jax.block_until_ready(parts)
        name = f"{group.main.rows} rows, {group.shape.together} of {group.trie.lanes[-1]} lanes at a time"
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - before
    return parts, seconds


def count_operations(work: Work, run: Run) -> Counted:
    """Of one batch: what the study needs, what the engine did, and what one pass for every configuration takes."""

    def by_stage(found: Operations) -> np.ndarray:
        return np.array([found.images, found.base, found.suffixes, found.readout])

    return Counted(
        by_stage(necessary_operations(work.costs, run.placement, run.batch)),
        by_stage(executed_operations(work.costs, run.placement, run.batch, CAUSAL_BLOCK)),
        usual_operations(work.costs, run.batch, len(work.study.knockouts)),
    )


def summed(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """By key, in the order in which keys appear."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def divided(parts: dict[str, float], count: int) -> dict[str, float]:
    """Of each, its share."""
    return {name: whole / count for name, whole in parts.items()}


def first_measures(
    question: RandomQuestion, batches: Sequence[Sequence[RandomQuestion]], runs: Sequence[Run]
) -> dict[str, Any]:
    """One question's tokens and probabilities."""
    batch, run = next(one for one in zip(batches, runs, strict=True) if question in one[0])
    row = batch.index(question)
    own = jax.tree.map(lambda of_all: of_all[row], run.measured)
    return {
        "base_token": int(own.base_token),
        "base_prob": float(own.base_prob),
        "probs": own.knockout_prob.astype(float).tolist(),
        "tokens": own.knockout_token.tolist(),
    }


def say(line: str) -> None:
    """Progress, beside the result on standard output."""
    print(line, file=sys.stderr, flush=True)


def run_plain(work: Work, question: RandomQuestion, token: int) -> dict[str, Any]:
    """Seconds of one configuration, and what some leave of the token's probability."""
    knockouts, study = work.preset.plain_knockouts, work.study
    at_once = min(8, knockouts)
    sweep = jax.jit(sweep_plain, static_argnames=("at_once",))
    batch = build_batch([question])
    positions = build_positions([question], study.actions, batch.tokens.shape[1])
    chosen = spread(len(study.knockouts), knockouts)
    some = jax.tree.map(lambda switch: switch[np.array(chosen)], study.switches)
    spent = 0.0
    logits: Any = None
    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        logits = sweep(work.model.net, batch, positions, some, at_once=at_once).block_until_ready()
        spent = time.perf_counter() - start
    return {
        "plain_seconds_per_knockout": spent / len(chosen),
        "plain_chosen": chosen,
        "plain_probs": np.asarray(jax.nn.softmax(logits[:, 0])[:, token]).astype(float).tolist(),
    }


def _matmul_rate(dtype: str) -> float:
    side = 2048 if jax.default_backend() == "cpu" else 8192
    a, b = (jax.random.normal(jax.random.key(seed), (side, side), jnp.dtype(dtype)) for seed in range(2))
    product = jax.jit(jnp.matmul)
    return matmul_rate(side, lambda: product(a, b).block_until_ready())
