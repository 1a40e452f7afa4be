"""Do the engine's passes compile for a TPU chip, how much memory do they take there, and what do they lay out anew?

    make tpu-compile ARGS="--chip v5p --preset llava-1.5-7b --batch-size 2"

Needs no TPU: `jax[tpu]` brings the compiler, which compiles for a chip that is described to it. Prints a table, a pass
a line. Minutes for a pass at real sizes; `--most-rows 1` leaves out the longest.
"""

import argparse
import math
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import random_question, study_rows
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.fast.base_run import base_pass
from xmflow_jax.knockout.fast.passes import suffix_pass
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.plain import encode_images
from xmflow_jax.knockout.study import build_study
from xmflow_jax.nn.network import Network
from xmflow_jax.weights.load import abstract_model

# The smallest arrangement that each chip comes in, of which one chip is taken.
CHIPS: Final = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
HERE: Final = "here"
# Copies of so many bytes are told.
LARGE: Final = 64 * 2**20
_COPY: Final = re.compile(r"= \(?(\w+)\[([\d,]*)\][^=\n]*? copy(?:-start)?\(")
_BITS: Final = re.compile(r"\d+")
_HEAD: Final = ("pass", "compiled in", "arguments, GiB", "output", "temporary", "copies of more than 64 MiB")


class Copy(NamedTuple):
    """An array that a program lays out anew."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = _BITS.search(self.dtype)
        return math.prod(self.shape) * (int(bits[0]) if bits else 8) // 8

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def copies_in(program: str) -> list[Copy]:
    """Those of a compiled program's text."""
    return [
        Copy(dtype, tuple(int(side) for side in sides.split(",") if side)) for dtype, sides in _COPY.findall(program)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--chip", choices=(*CHIPS, HERE), default="v5p", help="here: this machine's own device")
    parser.add_argument("--preset", choices=PRESETS, default="llava-1.5-7b")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--most-rows", type=int, default=None, help="leave out suffix passes over more rows")
    options = parser.parse_args()
    print(f"{options.preset}, batch of {options.batch_size}, one chip: {options.chip}, jax {jax.__version__}\n")
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}", flush=True)
    for name, lowered in passes(options.preset, options.batch_size, options.chip, options.most_rows):
        print(f"| {' | '.join(row_of(name, lowered))} |", flush=True)


def passes(name: str, batch_size: int, chip: str, most_rows: int | None = None) -> Iterator[tuple[str, Any]]:
    """Every pass of the preset's study, lowered for one chip: (name, `jax.stages.Lowered`)."""
    preset = PRESETS[name]
    devices = jax.devices() if chip == HERE else topologies.get_topology_desc(CHIPS[chip], "tpu").devices
    place = NamedSharding(Mesh(np.array(devices[:1]), ("x",)), PartitionSpec())

    def on_chip(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=place), tree)

    questions = [random_question(preset, seed) for seed in range(batch_size)]
    batch = build_batch(questions)
    study = build_study([row.knockout for row in study_rows(preset)], preset.family.anatomy(preset.model))
    positions = build_positions(questions, study.actions, batch.tokens.shape[1])
    placement = place_study(study, positions, batch, platform=jax.default_backend() if chip == HERE else "tpu")
    net = on_chip(Network(*abstract_model(preset.family, preset.model, preset.dtype)))
    read, first = on_chip(batch), on_chip(placement.first)
    yield "image encoder", jax.jit(encode_images).lower(net, read.pixels)
    features = on_chip(jax.eval_shape(encode_images, net, read.pixels))
    run_base = partial(base_pass, rows=placement.rows)
    yield "base pass", jax.jit(run_base).lower(net, read, features, first)
    base = on_chip(jax.eval_shape(run_base, net, read, features, first))
    given = on_chip(Given(base, read, study.switches, positions))
    for group, starts in zip(placement.groups, placement.starts, strict=True):
        rows, shape = group.main.rows, group.shape
        if most_rows is not None and rows > most_rows:
            continue
        of_group = jax.jit(suffix_pass, static_argnames=("shape",))
        yield (
            f"suffix pass, {rows} rows, {shape.together} of {group.trie.lanes[-1]} lanes at a time",
            of_group.lower(net, given, on_chip(group.schedule), on_chip(starts), shape=shape),
        )


def row_of(name: str, lowered: Any) -> list[str]:
    """A line of the table."""
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    # Most often memory: the message says which arrays would not fit.
    except jax.errors.JaxRuntimeError as error:
        return [name, f"{time.perf_counter() - begin:.0f} s", f"does not compile: {str(error).splitlines()[0]}"]
    memory = compiled.memory_analysis()
    parts = [getattr(memory, f"{part}_size_in_bytes") / 2**30 for part in ("argument", "output", "temp")]
    large = [str(one) for one in copies_in(compiled.as_text()) if one.bytes > LARGE]
    told = ", ".join(f"{large.count(one)} of {one}" for one in dict.fromkeys(large)) or "none"
    return [name, f"{time.perf_counter() - begin:.0f} s", *(f"{part:.2f}" for part in parts), told]


if __name__ == "__main__":
    main()
