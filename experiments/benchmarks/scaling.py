"""How does a study scale over devices, image positions, layers, configurations and batch?

    python -m experiments.benchmarks.scaling --figure scaling.png

From a base point one thing varies at a time; every point is a process of its own with a random checkpoint in LLaVA's
layout. Told are seconds per question, without compilation, and the share of a large matmul's rate, measured beside it,
that the executed operations reach. Virtual devices of a CPU share its cores: there they show what spreading costs, not
what it gains.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import Preset

SUFFIXES: Final = 2  # among the stages of operations


@dataclass(frozen=True)
class Point:
    """What varies.

    Attributes:
        devices: that the questions of a batch are spread over.
        side: image patches to a side; `side * side` image positions.
        layers: of the decoder.
        pathways: of the study's six; each is a configuration for every layer.
        batch: questions at a time.
    """

    devices: int
    side: int
    layers: int
    pathways: int
    batch: int


@dataclass(frozen=True)
class Scale:
    """A preset's model and dtype, the point that all others share all but one thing with, and what these are."""

    preset: str
    base: Point
    varied: Mapping[str, Sequence[int]]
    questions: int


SCALES: Final = {
    "cpu": Scale(
        "cpu-576",
        Point(devices=1, side=12, layers=8, pathways=6, batch=1),
        {"devices": (1, 2, 4), "side": (12, 24, 36), "layers": (8, 16, 32), "pathways": (1, 3, 6), "batch": (1, 2, 4)},
        questions=4,
    ),
    "gpu": Scale(
        "llava-1.5-7b",
        Point(devices=1, side=24, layers=32, pathways=6, batch=8),
        {"side": (12, 24, 36), "layers": (16, 32, 40), "pathways": (1, 3, 6), "batch": (1, 2, 4, 8, 16)},
        questions=16,
    ),
    "tiny": Scale("tiny", Point(1, 4, 6, 6, 1), {"devices": (1, 2), "batch": (1, 2)}, questions=2),
}
LABELS: Final = {"side": "image positions", "pathways": "configurations"}


def points(scale: Scale) -> list[Point]:
    """The base point first, then the others; none twice."""
    varied = [
        replace(scale.base, **{axis: value}, **({"batch": max(value, scale.base.batch)} if axis == "devices" else {}))
        for axis, values in scale.varied.items()
        for value in values
    ]
    return list(dict.fromkeys([scale.base, *varied]))


def preset_of(scale: Scale, point: Point) -> Preset:
    """The preset with the point's sizes."""
    preset = PRESETS[scale.preset]
    vision = replace(preset.model.vision, image_size=point.side * preset.model.vision.patch_size)
    text = replace(preset.model.text, layers=point.layers)
    return replace(preset, model=replace(preset.model, vision=vision, text=text), pathways=point.pathways)


def measure(scale: Scale, point: Point) -> dict[str, Any]:
    """In this process: seconds per question, and operations per second, also of a large matmul."""
    import jax

    from experiments.benchmarks.checkpoint import write_checkpoint
    from experiments.benchmarks.jax_side import run_jax
    from experiments.benchmarks.workload import random_question

    preset = preset_of(scale, point)
    # Whole batches: a smaller last one would be another program.
    count = -(-scale.questions // point.batch) * point.batch
    questions = [random_question(preset, seed) for seed in range(count)]
    with TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch) / "model", preset)
        found = run_jax(preset, Path(scratch) / "model", questions, point.batch, plain=False, devices=point.devices)
    return {
        "seconds": found["seconds_per_question"],
        "rate": sum(found["executed"]) / found["seconds_per_question"],
        "suffix_rate": found["executed"][SUFFIXES] / found["stages"]["suffix passes"],
        "peak": found["matmul_rate"] * point.devices,
        "device": found["device"],
        "virtual": jax.default_backend() == "cpu",
    }


def with_shares(base: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """With shares of the peak. Virtual devices of a CPU share what the base point's one device has alone."""
    peak = base["peak"] if one["virtual"] else one["peak"]
    return {**one, "share": one["rate"] / peak, "suffix_share": one["suffix_rate"] / peak}


def spawn(name: str, point: Point) -> dict[str, Any]:
    """`measure` in a process that has as many devices, virtual ones on a CPU."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={point.devices}"
    command = [sys.executable, "-m", "experiments.benchmarks.scaling", "--scale", name, "--point"]
    done = subprocess.run(
        [*command, json.dumps(asdict(point))],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags},
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def axis_value(axis: str, point: Point) -> int:
    """What the table and the figure call the point along an axis."""
    named = {"side": point.side**2, "pathways": point.pathways * point.layers}
    value: int = named.get(axis, getattr(point, axis))
    return value


def print_table(scale: Scale, found: Mapping[Point, Mapping[str, Any]]) -> None:
    base = ", ".join(f"{axis_value(axis, scale.base)} {LABELS.get(axis, axis)}" for axis in asdict(scale.base))
    print(f"{found[scale.base]['device']}, {os.cpu_count()} processors; preset {scale.preset}, base point: {base}")
    print(f"{'varied':<18}{'value':>7}{'batch':>7}{'s/question':>12}{'over base':>11}{'of matmul':>11}{'suffixes':>10}")
    for axis in scale.varied:
        for point, one in along(scale, found, axis):
            over = one["seconds"] / found[scale.base]["seconds"]
            print(
                f"{LABELS.get(axis, axis):<18}{axis_value(axis, point):>7}{point.batch:>7}{one['seconds']:>12.3f}"
                f"{over:>11.2f}{one['share']:>11.0%}{one['suffix_share']:>10.0%}"
            )


def along(scale: Scale, found: Mapping[Point, Mapping[str, Any]], axis: str) -> list[tuple[Point, Mapping[str, Any]]]:
    """The points of an axis; devices are compared at the batch that they need."""
    others = [name for name in asdict(scale.base) if name != axis and (axis, name) != ("devices", "batch")]
    own = [point for point in found if all(getattr(point, name) == getattr(scale.base, name) for name in others)]
    if axis == "devices":
        own = [point for point in own if point.devices > 1 or point == scale.base]
    return [(point, found[point]) for point in sorted(own, key=lambda point: axis_value(axis, point))]


def draw(scale: Scale, found: Mapping[Point, Mapping[str, Any]], path: Path) -> None:
    """Seconds per question above, shares of the matmul's rate below, a column per axis."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(scale.varied), 4.6), layout="constrained")
    grid = figure.subplots(2, len(scale.varied), squeeze=False, sharey="row")
    for (above, below), axis in zip(grid.T, scale.varied, strict=True):
        own = along(scale, found, axis)
        values = [axis_value(axis, point) for point, _ in own]
        above.plot(values, [one["seconds"] for _, one in own], marker="o")
        below.plot(values, [100 * one["share"] for _, one in own], marker="o", label="all stages")
        below.plot(values, [100 * one["suffix_share"] for _, one in own], marker="s", label="suffix passes")
        for panel in (above, below):
            panel.set_xscale("log", base=2)
            panel.set_xticks(values, [str(value) for value in values])
            panel.minorticks_off()
        above.set_title(LABELS.get(axis, axis), fontsize=10)
    grid[0, 0].set_ylabel("Seconds per question")
    grid[0, 0].set_ylim(bottom=0)
    grid[1, 0].set_ylabel("Share of a large matmul's rate (%)")
    grid[1, 0].set_ylim(0, 100)
    grid[1, -1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--figure", type=Path, default=Path("scaling.png"))
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    scale = SCALES[options.scale]
    if options.point:
        print(json.dumps(measure(scale, Point(**json.loads(options.point)))))
        return
    found: dict[Point, dict[str, Any]] = {}
    for point in points(scale):
        print(f"running {point} ...", file=sys.stderr, flush=True)
        one = spawn(options.scale, point)
        found[point] = with_shares(found.get(scale.base, one), one)
    print_table(scale, found)
    draw(scale, found, options.figure)
    print(f"figure {options.figure}")


if __name__ == "__main__":
    main()
