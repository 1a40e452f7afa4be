"""Trains a shipped model from nothing: `python -m experiments.shapes.train shapes-llava --out DIR`.

Two stages in one run: the vision tower learns what lies at each patch, then the decoder learns to answer, the tower
frozen. Every batch follows from (seed, step), and the state is saved as it goes, so a killed run goes on where it was.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# glibc gives memory back to the system after every step and fetches it again, which cost 29 % of the time. These are
# read when a process starts.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
}
if __name__ == "__main__" and not _MALLOC.keys() <= os.environ.keys():
    os.execve(sys.executable, [sys.executable, "-m", "experiments.shapes.train", *sys.argv[1:]], os.environ | _MALLOC)
if __name__ == "__main__" and find_spec("optax") is None:
    sys.exit("training needs optax, not installed here: pip install '.[train]' in this program's folder")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from flax import nnx  # noqa: E402
from optax.contrib import MuonDimensionNumbers, muon  # noqa: E402
from tqdm import tqdm  # noqa: E402

from experiments.shapes.batches import Batch, draw_batch  # noqa: E402
from experiments.shapes.losses import PatchReader, decoder_loss, vision_loss  # noqa: E402
from experiments.shapes.recipe import RECIPES, Recipe  # noqa: E402
from experiments.shapes.ship import ship  # noqa: E402
from xmflow_jax.data.sources.study_csv import STUDY_TASKS  # noqa: E402

Tree = Any
Loss = Callable[[Tree, Batch], tuple[jax.Array, dict[str, jax.Array]]]

SAVE_EVERY = 250
LOG_EVERY = 50
# Steps of the vision stage see other scenes than the decoder's.
VISION_OFFSET = 10_000_000


def matrix_axes(params: Tree) -> Tree:
    """Muon's axes for the stacked block matrices [layer, in, out]; None, which means Adam, for everything else."""
    return jax.tree.map_with_path(
        lambda path, leaf: MuonDimensionNumbers((1,), (2,)) if leaf.ndim == 3 and "layers" in str(path) else None,
        params,
    )


def optimizer(muon_rate: float, adam_rate: float, steps: int, warm_up: int, decay_from: float) -> Any:
    """Muon on block matrices, Adam on the rest; warm-up, constant, linear decay to nothing."""

    def schedule(peak: float) -> Any:
        start = int(decay_from * steps)
        parts = [
            optax.linear_schedule(0.0, peak, warm_up),
            optax.constant_schedule(peak),
            optax.linear_schedule(peak, 0.0, steps - start),
        ]
        return optax.join_schedules(parts, [warm_up, start])

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(schedule(muon_rate), adam_learning_rate=schedule(adam_rate), muon_weight_dimension_numbers=matrix_axes),
    )


def run_stage(
    name: str,
    folder: Path,
    loss: Loss,
    params: Tree,
    optimiser: Any,
    batch_of: Callable[[int], Batch],
    steps: int,
    report: Callable[[int, dict[str, float]], None],
) -> Tree:
    """The parameters after `steps` steps; goes on from the newest state in `folder`."""

    @jax.jit
    def step(params: Tree, state: Tree, batch: Batch) -> tuple[Tree, Tree, dict[str, jax.Array]]:
        (value, measures), gradients = jax.value_and_grad(loss, has_aux=True)(params, batch)
        updates, state = optimiser.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, measures | {"loss": value}

    @jax.jit
    def tasks_right(right: jax.Array, task: jax.Array) -> jax.Array:
        of = task[..., None] == jnp.arange(len(STUDY_TASKS))
        return jnp.stack([(of & right[..., None]).sum((0, 1)), of.sum((0, 1))])

    state = optimiser.init(params)
    with ocp.CheckpointManager(
        folder.resolve() / name, options=ocp.CheckpointManagerOptions(max_to_keep=2, save_interval_steps=SAVE_EVERY)
    ) as saved:
        begin = saved.latest_step() or 0
        if begin:
            params, state = saved.restore(begin, args=ocp.args.StandardRestore((params, state)))
        seen: list[dict[str, Any]] = []
        for number in tqdm(range(begin, steps), initial=begin, total=steps, desc=name, mininterval=10):
            batch = batch_of(number)
            params, state, measures = step(params, state, batch)
            if "right" in measures:
                measures["tasks"] = tasks_right(measures.pop("right"), batch.task)
            seen.append(measures)
            if (number + 1) % LOG_EVERY == 0 or number + 1 == steps:
                report(number + 1, _mean(seen))
                seen.clear()
            if (number + 1) % SAVE_EVERY == 0 or number + 1 == steps:
                saved.save(number + 1, args=ocp.args.StandardSave((params, state)), force=True)
                saved.wait_until_finished()
    return params


def _mean(seen: list[dict[str, Any]]) -> dict[str, float]:
    values = jax.device_get(seen)
    means = {key: float(np.mean([one[key] for one in values])) for key in values[0] if key != "tasks"}
    if "tasks" in values[0]:
        right, asked = np.sum([one["tasks"] for one in values], axis=0)
        means |= {task: float(r / max(a, 1)) for task, r, a in zip(STUDY_TASKS, right, asked, strict=True)}
    return means


def train(recipe: Recipe, folder: Path, stop_after: int | None = None) -> tuple[Any, Tree]:
    """Both stages; the model as `nnx.split` gives it. `metrics.csv` in `folder` grows by a row every 50 steps.

    Args:
        stop_after: fewer decoder steps than the recipe's, for trying out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def report_to(stage: str) -> Callable[[int, dict[str, float]], None]:
        def report(step: int, measures: dict[str, float]) -> None:
            write_metrics(folder / "metrics.csv", stage, step, time.monotonic() - began, measures)

        return report

    vision, decoder, config = recipe.vision, recipe.decoder, recipe.config
    patch = config.vision.patch_size
    reader_def, reader = nnx.split(PatchReader(config.vision, rngs=nnx.Rngs(recipe.seed)))
    reader = run_stage(
        "vision",
        folder,
        lambda params, batch: vision_loss(reader_def, params, batch),
        reader,
        optimizer(vision.muon_rate, vision.adam_rate, vision.steps, 100, 0.4),
        lambda step: draw_batch(recipe.seed, VISION_OFFSET + step, vision.scenes, {}, patch, vision.centre_in_image),
        vision.steps,
        report_to("vision"),
    )
    tower = nnx.to_flat_state(nnx.split(nnx.merge(reader_def, reader).tower)[1])
    model: Any = recipe.family.build(config, dtype=jnp.float32, rngs=nnx.Rngs(recipe.seed + 1))
    graphdef, state = nnx.split(model)
    _, params = nnx.split_state(state, lambda path, _: "vision_tower" in path, ...)
    frozen = nnx.from_flat_state([(("vision_tower", *path), leaf) for path, leaf in tower])
    settings = {"alignment": decoder.alignment, "sides": decoder.sides}
    params = run_stage(
        "decoder",
        folder,
        lambda params, batch: decoder_loss(graphdef, params, frozen, batch, settings),
        params,
        optimizer(decoder.muon_rate, decoder.adam_rate, decoder.steps, decoder.warm_up, decoder.decay_from),
        lambda step: draw_batch(recipe.seed, step, decoder.scenes, decoder.questions, patch),
        stop_after or decoder.steps,
        report_to("decoder"),
    )
    return graphdef, nnx.merge_state(params, frozen)


def write_metrics(path: Path, stage: str, step: int, seconds: float, measures: dict[str, float]) -> None:
    """Append one row to the CSV file of a training."""
    columns = ["stage", "step", "seconds", "loss", "patches", "answer_loss", "alignment_loss", *STUDY_TASKS]
    row = {"stage": stage, "step": step, "seconds": f"{seconds:.1f}"}
    row |= {key: f"{value:.5f}" for key, value in measures.items()}
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(*(f"{key} {value}" for key, value in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--out", type=Path, required=True, help="folder of states, metrics and the finished model")
    parser.add_argument("--stop-after", type=int, help="decoder steps, for trying out")
    parser.add_argument("--per-task", type=int, default=2000, help="test questions of each task (default: 2000)")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.model]
    print(asdict(recipe), flush=True)
    target = arguments.out / recipe.name
    if target.exists():
        sys.exit(f"{target} exists: this training is done")
    _, state = train(recipe, arguments.out, arguments.stop_after)
    ship(target, recipe, state, arguments.out / "metrics.csv", arguments.per_task)
    print(f"wrote {target}; to ship it, put it into checkpoints/")


if __name__ == "__main__":
    main()
