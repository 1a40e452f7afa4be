"""What a session settles and records of itself without deciding its results: batch size, machine, the model's shape."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.cli.replay import command_line
from xmflow_jax.machine.mesh import automatic_mesh, check_mesh, parse_mesh
from xmflow_jax.machine.partitioning import CONFIGURATIONS, DATA, MODEL, kept_whole, split_bytes
from xmflow_jax.machine.processes import Processes
from xmflow_jax.report.run_content import COMMAND_KEY, PLANNED_KEY, SHAPE_KEY
from xmflow_jax.study.options import SweepOptions
from xmflow_jax.weights.load import ModelIdentity, abstract_model, shapes

ALONE: Final = Processes()

# What a CPU's memory holds: kibibytes, by name.
MEMORY_FILE: Final = Path("/proc/meminfo")

# Models of fewer parameters run in large batches on a CPU too.
SMALL_MODEL: Final = 10_000_000


def default_batch_size(identity: ModelIdentity, on_cpu: bool, largest_task: int) -> int:
    """Questions at a time: small models are fast in large batches, whatever the device.

    Args:
        largest_task: questions of the task that has most; batches are of one task, and short ones are padded.
    """
    leaves = shapes(abstract_model(identity.family, identity.config, identity.dtype)[1]).values()
    if sum(math.prod(leaf.shape) for leaf in leaves) < SMALL_MODEL:
        return min(32, largest_task)
    return 1 if on_cpu else min(8, largest_task)


@dataclass(frozen=True)
class Layout:
    """The devices of a session and what is spread over them.

    Attributes:
        mesh: None for one device.
        along: devices side by side, each with questions (or configurations) of its own.
        line: for people; empty for one device.
    """

    mesh: Mesh | None
    along: int
    line: str

    @property
    def least_questions(self) -> int:
        """That can be answered at a time: one on every device that has questions of its own."""
        return self.along if self.mesh is not None and DATA in self.mesh.axis_names else 1

    def batch_size(self, wanted: int) -> int:
        """Questions at a time, the same number on every device."""
        return -(-wanted // self.least_questions) * self.least_questions


def device_layout(
    text: str | None, identity: ModelIdentity, most_questions: int, processes: Processes = ALONE
) -> Layout:
    """The mesh that `--mesh` asks for; by default all accelerators side by side, and of a CPU one device.

    Of several processes each has a mesh of its own devices, or shares one with those in step with it: of what is asked
    for side by side it has its part.

    Args:
        most_questions: of any task. Where these are fewer than the devices side by side, every device has the same
            questions, and of each question its own configurations.

    Raises:
        OptionError: this machine cannot give the mesh.
    """
    group = range(processes.index - processes.index % processes.in_step, processes.count)[: processes.in_step]
    devices = [device for device in jax.devices() if device.process_index in group]
    leaves = shapes(abstract_model(identity.family, identity.config, identity.dtype)[1])
    partitioning = identity.family.partitioning(identity.config)
    if text is None:
        wanted = {"data": 1 if jax.default_backend() == "cpu" else len(devices), "model": 1}
    else:
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        needed = partial(split_bytes, partitioning, leaves)
        wanted = parse_mesh(text) or automatic_mesh(len(devices), needed, memory)
    if processes.count > 1:
        wanted = {**wanted, "data": len(devices) // wanted["model"]}
    check_mesh(wanted, len(devices))
    side, model = wanted["data"], wanted["model"]
    if side * model == 1:
        return Layout(None, 1, "")
    axis = CONFIGURATIONS if most_questions < side else DATA
    grid = np.array(devices[: side * model]).reshape(side, model)
    mesh = Mesh(grid, (axis, MODEL), axis_types=(AxisType.Auto,) * 2)
    spread = "questions" if axis == DATA else "configurations"
    line = f"{side * model} devices: {spread} over {side}, the model over {model}"
    if whole := kept_whole(partitioning, leaves, mesh):
        line += f" (do not divide and stay whole: {', '.join(whole)})"
    return Layout(mesh, side, line)


def free_memory(layout: Layout) -> int | None:
    """Bytes that a program may still take of each device, the least of all of them; None where that is not known, and
    for devices of several processes, which must not decide differently.

    An accelerator tells it itself. Devices of a CPU share what the machine can give without swapping; Linux tells that.
    """
    devices = [jax.local_devices()[0]] if layout.mesh is None else list(layout.mesh.devices.flat)
    if any(device.process_index != jax.process_index() for device in devices):
        return None
    told = [device.memory_stats() for device in devices]
    if all(told):
        return min(int(one["bytes_limit"] - one["bytes_in_use"]) for one in told if one)
    try:
        lines = MEMORY_FILE.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 // len(devices) if found else None


def provenance(
    options: SweepOptions, batch_size: int, shape: ModelShape | None, questions: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What describes a session without deciding its results.

    Args:
        questions: how many each task has, from which a report tells whether the run is finished.
    """
    return {
        **machine(batch_size),
        "self_check": options.self_check,
        SHAPE_KEY: None if shape is None else asdict(shape),
        COMMAND_KEY: command_line(options),
        PLANNED_KEY: None if questions is None else dict(questions),
    }


def machine(batch_size: int) -> dict[str, Any]:
    """Versions, devices and batch size."""
    packages = ("xmflow-jax", "jax", "jaxlib", "flax", "transformers", "numpy")
    return {
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "batch_size": batch_size,
    }
