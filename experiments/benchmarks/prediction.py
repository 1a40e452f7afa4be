"""Seconds a question on chips that are not here, predicted: operations and bytes over the chips' published peaks.

    python -m experiments.benchmarks.prediction --preset llava-1.5-7b --batch-size 8
    python -m experiments.benchmarks.prediction --preset cpu-576 --here

Each pass takes at least as long as its operations at the chip's peak, and as its bytes at the memory's; the longer of
the two binds it. No pass reaches its peak, so a prediction is a bound from below: `--here` prints the same arithmetic
for this machine, whose peaks are measured, beside what the engine takes, so that the error is known.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.checkpoint import write_checkpoint
from experiments.benchmarks.jax_side import load_work, run_batch
from experiments.benchmarks.matmul import matmul_rate
from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import Preset, random_question, study_rows
from xmflow_jax.data.batch import Batch, build_batch
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.costs import ModelCosts, Operations, executed_operations, model_costs
from xmflow_jax.knockout.fast.placement import Group, Placement, place_study
from xmflow_jax.knockout.study import build_study
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.visibility import CAUSAL_BLOCK
from xmflow_jax.weights.load import abstract_model


class Peaks(NamedTuple):
    """What a chip does at most, in a second.

    Attributes:
        operations: in bfloat16, dense.
        bytes: of its memory, read or written.
    """

    operations: float
    bytes: float


# Published by their makers: cloud.google.com/tpu/docs (v5e, v5p, v6e), NVIDIA's data sheets (H100 SXM, H200).
PUBLISHED: Final = {
    "TPU v5e": Peaks(197e12, 819e9),
    "TPU v5p": Peaks(459e12, 2765e9),
    "TPU v6e": Peaks(918e12, 1640e9),
    "NVIDIA H100": Peaks(989e12, 3.35e12),
    "NVIDIA H200": Peaks(989e12, 4.8e12),
}
# What a row of a block reads and writes between its matrices, in widths: inputs and outputs of a gated MLP 2.7 times as
# wide and of four projections, two norms, two sums.
WIDTHS_A_ROW: Final = 28


@dataclass(frozen=True)
class Counted:
    """A pass over one batch.

    Attributes:
        name: of the pass.
        operations: executed, padding and idle lanes among them.
        bytes: read and written: weights once a run, keys and values of the prefix once a run, states.
    """

    name: str
    operations: float
    bytes: float

    def seconds(self, peaks: Peaks) -> float:
        """The longer of the two."""
        return max(self.operations / peaks.operations, self.bytes / peaks.bytes)

    def binding(self, peaks: Peaks) -> str:
        """Which of the two is longer."""
        return "compute" if self.operations / peaks.operations >= self.bytes / peaks.bytes else "memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="llava-1.5-7b")
    parser.add_argument("--batch-size", type=int, default=None, help="default: 1 with --here, else 8")
    parser.add_argument("--here", action="store_true", help="this machine, predicted and measured")
    options = parser.parse_args()
    preset, size = PRESETS[options.preset], options.batch_size or (1 if options.here else 8)
    found = counted_passes(preset, size, jax.default_backend() if options.here else "tpu")
    print(
        f"{options.preset}, batch of {size}: {sum(one.operations for one in found) / size / 1e9:,.0f} GFLOP a question"
    )
    head = ("chip", "s a question", *(one.name for one in found))
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    chips = {"this machine, predicted": measured_peaks(preset.dtype)} if options.here else PUBLISHED
    for chip, peaks in chips.items():
        print(f"| {' | '.join(row_of(chip, peaks, found, size))} |", flush=True)
    if options.here:
        spent = measured(preset, size)
        print(f"| this machine, measured | {sum(spent):.3g} | {' | '.join(f'{one:.3g}' for one in spent)} |")


def row_of(chip: str, peaks: Peaks, found: Sequence[Counted], batch_size: int) -> list[str]:
    """A line of the table: seconds a question of all passes together and of each, and what binds it."""
    spent = [one.seconds(peaks) / batch_size for one in found]
    each = [f"{own:.3g} ({one.binding(peaks)})" for own, one in zip(spent, found, strict=True)]
    return [chip, f"{sum(spent):.3g}", *each]


def counted_passes(preset: Preset, batch_size: int, platform: str) -> list[Counted]:
    """Image encoder, base pass and the suffix passes of a preset's study on one batch.

    Args:
        platform: that decides how many lanes run at a time.
    """
    questions = [random_question(preset, seed) for seed in range(batch_size)]
    batch = build_batch(questions)
    study = build_study([row.knockout for row in study_rows(preset)], preset.family.anatomy(preset.model))
    positions = build_positions(questions, study.actions, batch.tokens.shape[1])
    placement = place_study(study, positions, batch, platform=platform)
    graphdef, params = abstract_model(preset.family, preset.model, preset.dtype)
    costs, itemsize = model_costs(Network(graphdef, params), questions[0].pixels), jnp.dtype(preset.dtype).itemsize
    none = executed(costs, placement, (), batch)
    head = none.readout / 2 / batch_size * itemsize
    passes = [
        Counted("image encoder", none.images, none.images / batch_size / 2 / visual_rows(preset) * itemsize),
        Counted("base pass", none.base + none.readout, base_bytes(costs, batch, itemsize) + head),
    ]
    for group in placement.groups:
        own = executed(costs, placement, (group,), batch)
        name = f"suffix pass, {group.main.rows} rows"
        operations = own.suffixes + own.readout - none.readout
        passes.append(Counted(name, operations, suffix_bytes(costs, group, batch_size, itemsize) + head))
    return passes


def executed(costs: ModelCosts, placement: Placement, groups: tuple[Group, ...], batch: Batch) -> Operations:
    """Of some of a placement's groups alone."""
    return executed_operations(costs, replace(placement, groups=groups), batch, CAUSAL_BLOCK)


def visual_rows(preset: Preset) -> int:
    """About how many rows share the encoder's weights: a prompt's image positions."""
    return preset.images * preset.image_positions


def base_bytes(costs: ModelCosts, batch: Batch, itemsize: int) -> float:
    """Weights once, states and keys and values of every position."""
    total = 0.0
    for stack, inputs in zip(costs.stacks, batch.inputs, strict=True):
        positions = int(np.prod(inputs.tokens.shape))
        for block in stack.blocks:
            keys = block.keys_values / (2 * stack.width)
            total += block.dense / 2 + positions * (WIDTHS_A_ROW * stack.width + keys)
    return total * itemsize


def suffix_bytes(costs: ModelCosts, group: Group, batch_size: int, itemsize: int) -> float:
    """In every layer weights and the prefix's keys and values once a run, and the states of its lanes."""
    total = 0.0
    layers = [(number, stack, block) for number, stack in enumerate(costs.stacks) for block in stack.blocks]
    for runs, (number, stack, block) in zip(group.schedule.runs, layers, strict=True):
        extent = group.shape.extents[number]
        if extent is None or not runs:
            continue
        keys = batch_size * extent.prefix * block.keys_values / (2 * stack.width)
        states = batch_size * group.shape.together * extent.rows * WIDTHS_A_ROW * stack.width
        total += int(runs) * (block.dense / 2 + keys + states)
    return total * itemsize


def measured_peaks(dtype: str) -> Peaks:
    """This machine's large product, and a copy of 256 MiB, which reads and writes."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    a, b = (jax.random.normal(jax.random.key(seed), (side, side), jnp.dtype(dtype)) for seed in range(2))
    product, numbers = jax.jit(jnp.matmul), jnp.zeros(2**26, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    copy(numbers).block_until_ready()
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        copy(numbers).block_until_ready()
        spent.append(time.perf_counter() - begin)
    return Peaks(matmul_rate(side, lambda: product(a, b).block_until_ready()), 2 * numbers.nbytes / min(spent))


def measured(preset: Preset, batch_size: int) -> list[float]:
    """Seconds a question here, by pass; readouts are the suffix passes' own."""
    questions = [random_question(preset, seed) for seed in range(batch_size)]
    with TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch), preset)
        work = load_work(preset, Path(scratch), questions[0], devices=1)
        run_batch(work, questions)
        run = run_batch(work, questions)
    return [one / batch_size for one in (run.stages["image encoder"], run.stages["base pass"], *run.groups.values())]


if __name__ == "__main__":
    main()
