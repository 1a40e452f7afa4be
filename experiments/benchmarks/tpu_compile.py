"""Do the engine's passes compile for a TPU chip, how much memory do they take there, what do they copy and exchange?

    make tpu-compile ARGS="--chip v5p --preset llava-1.5-7b --batch-size 2"

Needs no TPU: `jax[tpu]` brings the compiler, which compiles for chips that are described to it. Prints a table, a pass
a line; the sizes are those of one chip. Minutes for a pass at real sizes; `--most-rows 1` leaves out the longest.
"""

import argparse
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import Preset, random_question, study_rows
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.fast.engine import encode, run_base, run_suffixes
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.study import build_study
from xmflow_jax.machine.mesh import mesh_text, parse_mesh
from xmflow_jax.machine.partitioning import DATA, MODEL, parameter_shardings
from xmflow_jax.machine.passes import FIRST, SHARED, Pass
from xmflow_jax.nn.network import Network
from xmflow_jax.weights.load import abstract_model, fill_state, shapes


class Chip(NamedTuple):
    """A kind of chip.

    Attributes:
        topology: the smallest arrangement that it comes in, by its number of chips.
        memory: bytes of one.
    """

    topology: dict[int, str]
    memory: int


GIB: Final = 2**30
CHIPS: Final = {
    "v5e": Chip({4: "v5e:2x2", 8: "v5e:2x4"}, 16 * GIB),
    "v5p": Chip({4: "v5p:2x2x1", 8: "v5p:2x2x2"}, 95 * GIB),
    "v6e": Chip({4: "v6e:2x2", 8: "v6e:2x4"}, 32 * GIB),
}
HERE: Final = "here"
# Copies of so many bytes are told.
LARGE: Final = 64 * 2**20
_COPY: Final = re.compile(r"= \(?(\w+)\[([\d,]*)\][^=\n]*? copy(?:-start)?\(")
_EXCHANGE: Final = re.compile(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
_BITS: Final = re.compile(r"\d+")
_HEAD: Final = (
    "pass",
    "compiled in",
    "arguments, GiB",
    "output",
    "temporary",
    "of the chip's memory",
    "copies of more than 64 MiB",
    "exchanges",
)


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
    parser.add_argument("--mesh", type=parse_mesh, default={"data": 1, "model": 1}, help="such as data=2,model=2")
    parser.add_argument("--most-rows", type=int, default=None, help="leave out suffix passes over more rows")
    options = parser.parse_args()
    chips = f"{options.chip}, {mesh_text(options.mesh)}"
    print(f"{options.preset}, batch of {options.batch_size}, {chips}, jax {jax.__version__}\n")
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}", flush=True)
    devices = devices_of(options.chip, math.prod(options.mesh.values()))
    mesh = Mesh(
        np.array(devices).reshape(options.mesh["data"], options.mesh["model"]), (DATA, MODEL), (AxisType.Auto,) * 2
    )
    memory = None if options.chip == HERE else CHIPS[options.chip].memory
    platform = jax.default_backend() if options.chip == HERE else "tpu"
    with jax.set_mesh(mesh):
        found = compiled_passes(PRESETS[options.preset], options.batch_size, mesh, platform, options.most_rows)
        for compiled in found:
            print(f"| {' | '.join(row_of(compiled, memory))} |", flush=True)


def devices_of(chip: str, count: int) -> list[Any]:
    """So many devices of a kind, described; those of this machine for HERE."""
    if chip == HERE:
        return list(jax.devices()[:count])
    topology = next(name for size, name in CHIPS[chip].topology.items() if size >= count)
    return list(topologies.get_topology_desc(topology, "tpu").devices[:count])


class Compiled(NamedTuple):
    """A pass through the compiler.

    Attributes:
        name: of the pass.
        seconds: of compiling.
        program: `jax.stages.Compiled`, or what went wrong.
    """

    name: str
    seconds: float
    program: Any


def compile_pass(name: str, one: Pass, arguments: dict[str, Any], static: dict[str, Any]) -> Compiled:
    """One of the engine's passes, compiled for the devices that its arguments lie on."""
    program = jax.jit(one.program.function, static_argnames=one.program.static)
    lowered = program.lower(**arguments, **static)
    begin = time.perf_counter()
    try:
        compiled: Any = lowered.compile()
    # Most often memory: the message says which arrays would not fit.
    except jax.errors.JaxRuntimeError as error:
        compiled = error
    return Compiled(name, time.perf_counter() - begin, compiled)


def compiled_passes(
    preset: Preset, batch_size: int, mesh: Mesh, platform: str, most_rows: int | None = None
) -> Iterator[Compiled]:
    """Every pass of the preset's study, compiled for a mesh, which is in force.

    Args:
        platform: of its devices.
        most_rows: suffix passes over more rows are left out.
    """

    def lie(tree: Any, spec: PartitionSpec) -> Any:
        place = NamedSharding(mesh, spec)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=place), tree)

    def left_by(compiled: Compiled, one: Pass, arguments: dict[str, Any], static: dict[str, Any]) -> Any:
        """What a pass leaves, where its program leaves it."""
        out = jax.eval_shape(lambda own: one.program.function(**own, **static), arguments)
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            out,
            compiled.program.output_shardings,
        )

    questions = [random_question(preset, seed) for seed in range(batch_size)]
    batch = build_batch(questions)
    study = build_study([row.knockout for row in study_rows(preset)], preset.family.anatomy(preset.model))
    positions = build_positions(questions, study.actions, batch.tokens.shape[1])
    placement = place_study(study, positions, batch, platform=platform)
    net, read = network_on(preset, mesh), lie(batch, FIRST)
    pixels = {"net": net, "pixels": read.pixels}
    encoder = compile_pass("image encoder", encode, pixels, {})
    yield encoder
    features = left_by(encoder, encode, pixels, {})
    whole = {"net": net, "batch": read, "features": features, "first": lie(placement.first, FIRST)}
    base = compile_pass("base pass", run_base, whole, {"rows": placement.rows})
    yield base
    if not isinstance(base.program, jax.stages.Compiled):
        return
    left = left_by(base, run_base, whole, {"rows": placement.rows})
    given = Given(left, read, lie(study.switches, SHARED), lie(positions, FIRST))
    for group, starts in zip(placement.groups, placement.starts, strict=True):
        if most_rows is not None and group.main.rows > most_rows:
            continue
        lanes = {"schedule": lie(group.schedule, SHARED), "starts": lie(starts, FIRST)}
        name = f"suffix pass, {group.main.rows} rows, {group.shape.together} of {group.trie.lanes[-1]} lanes at a time"
        yield compile_pass(name, run_suffixes, {"net": net, "given": given, **lanes}, {"shape": group.shape})


def network_on(preset: Preset, mesh: Mesh) -> Network:
    """A preset's model, its parameters' shapes where the parameters lie on a mesh."""
    graphdef, state = abstract_model(preset.family, preset.model, preset.dtype)
    leaves = shapes(state)
    places = parameter_shardings(preset.family.partitioning(preset.model), leaves, mesh)
    spread = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[path]) for path, leaf in leaves.items()
    }
    return Network(graphdef, fill_state(state, spread))


def row_of(compiled: Compiled, memory: int | None) -> list[str]:
    """A line of the table.

    Args:
        memory: bytes of a chip; None where that is not told.
    """
    name, seconds, program = compiled
    if not isinstance(program, jax.stages.Compiled):
        return [name, f"{seconds:.0f} s", f"does not compile: {str(program).splitlines()[0]}"]
    told = program.memory_analysis()
    parts = [getattr(told, f"{part}_size_in_bytes") / GIB for part in ("argument", "output", "temp")]
    share = "" if memory is None else f"{sum(parts) * GIB / memory:.0%}"
    text = program.as_text() or ""
    large = counted(Counter(str(one) for one in copies_in(text) if one.bytes > LARGE))
    exchanges = counted(Counter(_EXCHANGE.findall(text)))
    return [name, f"{seconds:.0f} s", *(f"{part:.2f}" for part in parts), share, large, exchanges]


def counted(found: Counter[str]) -> str:
    """Such as `2 of all-reduce`."""
    return ", ".join(f"{count} of {one}" for one, count in found.items()) or "none"


if __name__ == "__main__":
    main()
