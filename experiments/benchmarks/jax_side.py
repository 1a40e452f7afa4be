"""Our side of the benchmark: the fast engine stage by stage, and the plain engine."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.workload import Preset, RandomQuestion, spread, study_rows


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
    import jax
    import jax.numpy as jnp

    from xmflow_jax.data.batch import build_batch, in_batches, prompt_bucket
    from xmflow_jax.families.checkpoint import load_model
    from xmflow_jax.knockout.arrays import build_positions
    from xmflow_jax.knockout.costs import executed_operations, model_costs, necessary_operations, usual_operations
    from xmflow_jax.knockout.fast.engine import Placed, assemble, encode, run_base, run_suffixes
    from xmflow_jax.knockout.fast.passes import Given
    from xmflow_jax.knockout.fast.placement import place_study
    from xmflow_jax.knockout.measure import measure
    from xmflow_jax.knockout.study import build_study
    from xmflow_jax.machine.partitioning import DATA, MODEL
    from xmflow_jax.nn.visibility import CAUSAL_BLOCK

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
    _say(f"loaded in {loading:.1f} s")
    rows = study_rows(preset)
    study = build_study([row.knockout for row in rows], model.anatomy)
    net, costs = model.net, model_costs(model.net, questions[0].pixels.shape[1:])
    stages_of = ("host", "image encoder", "base pass", "suffix passes", "readout")
    seconds, compiling = dict.fromkeys(stages_of, 0.0), dict.fromkeys(stages_of, 0.0)
    operations: dict[str, Any] = {"necessary": np.zeros(4), "executed": np.zeros(4), "usual": 0.0}
    groups: dict[str, float] = {}

    def run(batch_of: list[RandomQuestion], record: bool) -> Any:
        clock = [time.perf_counter()]

        def lap(stage: str, result: Any = None) -> None:
            jax.block_until_ready(result)
            clock.append(time.perf_counter())
            (seconds if record else compiling)[stage] += clock[-1] - clock[-2]
            if not record and clock[-1] - clock[-2] > 1:
                _say(f"{stage}: {clock[-1] - clock[-2]:.1f} s, most of them compilation")

        batch = build_batch(batch_of)
        positions = build_positions(batch_of, study.actions, batch.tokens.shape[1])
        placement = place_study(study, positions, batch)
        lap("host")
        features = encode(net, batch.pixels)
        lap("image encoder", features)
        base = run_base(net, batch, features, placement.first, rows=placement.rows)
        lap("base pass", base)
        parts = []
        given = Given(base, batch, study.switches, positions)
        for group, starts in zip(placement.groups, placement.starts, strict=True):
            before = time.perf_counter()
            parts.append(run_suffixes(net, given, starts=starts, group=group))
            jax.block_until_ready(parts)
            if record:
                name = f"{group.main.rows} rows, {len(group.trie.segments)} segments"
                groups[name] = groups.get(name, 0.0) + time.perf_counter() - before
        lap("suffix passes", parts)
        placed = Placed(net, study, batch, positions, placement)
        result = jax.device_get(measure(base.logits, assemble(placed, base.logits, parts)))
        lap("readout")
        if record:
            stages = necessary_operations(costs, placement, batch)
            operations["necessary"] += np.array([stages.images, stages.base, stages.suffixes, stages.readout])
            stages = executed_operations(costs, placement, batch, CAUSAL_BLOCK)
            operations["executed"] += np.array([stages.images, stages.base, stages.suffixes, stages.readout])
            operations["usual"] += usual_operations(costs, batch, len(rows))
        return result

    batches = list(in_batches(questions, batch_size, prompt_bucket))
    start = time.perf_counter()
    for batch_of in batches:
        run(batch_of, record=False)
    warm_up = time.perf_counter() - start
    _say(f"warm-up {warm_up:.1f} s: {', '.join(f'{stage} {spent:.1f}' for stage, spent in compiling.items())}")
    start = time.perf_counter()
    results = [run(batch_of, record=True) for batch_of in batches]
    total = time.perf_counter() - start
    _say(f"fast engine: {total / len(questions):.4f} s a question")
    of_first, result = next(one for one in zip(batches, results, strict=True) if questions[0] in one[0])
    row = of_first.index(questions[0])
    first = jax.tree.map(lambda of_all: of_all[row], result)
    found: dict[str, Any] = {
        "seconds_per_question": total / len(questions),
        "stages": {stage: spent / len(questions) for stage, spent in seconds.items()},
        "groups": {name: spent / len(questions) for name, spent in groups.items()},
        "loading_seconds": loading,
        "warm_up_seconds": warm_up,
        "warm_up_stages": compiling,
        "necessary": list(operations["necessary"] / len(questions)),
        "executed": list(operations["executed"] / len(questions)),
        "usual": operations["usual"] / len(questions),
        "base_token": int(first.base_token),
        "base_prob": float(first.base_prob),
        "probs": first.knockout_prob.astype(float).tolist(),
        "tokens": first.knockout_token.tolist(),
        "device": jax.devices()[0].device_kind,
        "matmul_rate": _matmul_rate(jax, jnp, preset.dtype),
        "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }
    if plain and preset.plain_knockouts:
        found |= _run_plain(preset, model, study, questions[0], found["base_token"], jax)
    return found


def _say(line: str) -> None:
    """Progress, beside the result on standard output."""
    print(line, file=sys.stderr, flush=True)


def _run_plain(
    preset: Preset, model: Any, study: Any, question: RandomQuestion, token: int, jax: Any
) -> dict[str, Any]:
    """Seconds of one configuration, and what some leave of the token's probability."""
    from xmflow_jax.data.batch import build_batch
    from xmflow_jax.knockout.arrays import build_positions
    from xmflow_jax.knockout.plain import sweep_plain

    at_once = min(8, preset.plain_knockouts)
    sweep = jax.jit(sweep_plain, static_argnames=("at_once",))
    batch = build_batch([question])
    positions = build_positions([question], study.actions, batch.tokens.shape[1])
    chosen = spread(len(study.knockouts), preset.plain_knockouts)
    some = jax.tree.map(lambda switch: switch[np.array(chosen)], study.switches)
    spent = 0.0
    logits: Any = None
    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        logits = sweep(model.net, batch, positions, some, at_once=at_once).block_until_ready()
        spent = time.perf_counter() - start
    return {
        "plain_seconds_per_knockout": spent / len(chosen),
        "plain_chosen": chosen,
        "plain_probs": np.asarray(jax.nn.softmax(logits[:, 0])[:, token]).astype(float).tolist(),
    }


def _matmul_rate(jax: Any, jnp: Any, dtype: str) -> float:
    """Operations per second of one large matmul."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    a, b = (jax.random.normal(jax.random.key(seed), (side, side), jnp.dtype(dtype)) for seed in range(2))
    product = jax.jit(jnp.matmul)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        product(a, b).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
