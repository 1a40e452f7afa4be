"""The devices of a session: what is spread over them, how many questions they take, what memory they have left.

In force while a session computes: `full_precision`, then `devices_in_force`.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from xmflow_jax.machine.memory import memory_planned
from xmflow_jax.machine.mesh import automatic_mesh, check_mesh, parse_mesh
from xmflow_jax.machine.partitioning import CONFIGURATIONS, DATA, MODEL, Leaf, Partitioning, kept_whole, split_bytes
from xmflow_jax.machine.processes import ALONE, Processes

# What a CPU's memory holds: kibibytes, by name.
MEMORY_FILE: Final = Path("/proc/meminfo")

# Models of fewer parameters run in large batches on a CPU too.
SMALL_MODEL: Final = 10_000_000


@dataclass(frozen=True)
class DeviceLayout:
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
        """The fewest questions that can be answered at a time: one on every device that has questions of its own."""
        return self.along if self.mesh is not None and DATA in self.mesh.axis_names else 1

    def batch_size(self, wanted: int) -> int:
        """The number of questions at a time, rounded up so that every device has equally many: with four devices, 8
        where 6 are wanted."""
        return -(-wanted // self.least_questions) * self.least_questions


def on_cpu() -> bool:
    """Whether JAX computes on the CPU."""
    return jax.default_backend() == "cpu"


def default_dtype() -> str:
    """The type of parameters where none is asked for: "float32" on a CPU, "bfloat16" elsewhere."""
    return "float32" if on_cpu() else "bfloat16"


def default_batch_size(parameters: int, largest_task: int) -> int:
    """Questions at a time where no number is asked for. Small models are fast in large batches, whatever the device.

    Args:
        parameters: how many numbers the model has.
        largest_task: questions of the task that has most; batches are of one task, and short ones are padded.
    """
    if parameters < SMALL_MODEL:
        return min(32, largest_task)
    return 1 if on_cpu() else min(8, largest_task)


def device_layout(
    text: str | None,
    partitioning: Partitioning,
    leaves: Mapping[tuple[str, ...], Leaf],
    most_questions: int,
    processes: Processes = ALONE,
) -> DeviceLayout:
    """The mesh that `--mesh` asks for; by default all accelerators side by side, and of a CPU one device.

    Each of several processes has a mesh of its own devices, or shares one mesh with the processes in step with it: it
    takes its part of the devices that are asked for side by side.

    Args:
        text: the value of `--mesh`.
        partitioning: how the model's parameters may be spread.
        leaves: shapes of the model's parameters, by their paths.
        most_questions: of any task. Where these are fewer than the devices side by side, every device has the same
            questions, and of each question its own configurations.
        processes: the processes of the run.

    Raises:
        OptionError: this machine cannot give the mesh.
    """
    devices = [device for device in jax.devices() if device.process_index in processes.group]
    if text is None:
        wanted = {"data": 1 if on_cpu() else len(devices), "model": 1}
    else:
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        wanted = parse_mesh(text) or automatic_mesh(len(devices), partial(split_bytes, partitioning, leaves), memory)
    if processes.count > 1:
        wanted = {**wanted, "data": len(devices) // wanted["model"]}
    check_mesh(wanted, len(devices))
    side, model = wanted["data"], wanted["model"]
    if side * model == 1:
        return DeviceLayout(None, 1, "")
    axis = CONFIGURATIONS if most_questions < side else DATA
    grid = np.array(devices[: side * model]).reshape(side, model)
    mesh = Mesh(grid, (axis, MODEL), axis_types=(AxisType.Auto,) * 2)
    spread = "questions" if axis == DATA else "configurations"
    line = f"{side * model} devices: {spread} over {side}, the model over {model}"
    if whole := kept_whole(partitioning, leaves, mesh):
        line += f" (do not divide and stay whole: {', '.join(whole)})"
    return DeviceLayout(mesh, side, line)


def free_memory(layout: DeviceLayout) -> int | None:
    """Bytes that a program may still take of each device, the least of all devices.

    An accelerator tells it itself. Devices of a CPU share what the machine can give without swapping; Linux tells that.

    Returns:
        None where it is not known, and for devices of several processes, which must not decide differently.
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


@contextmanager
def full_precision(dtype: str) -> Iterator[None]:
    """Within this, float32 means float32: a GPU would multiply in TF32, and a TPU in bfloat16."""
    with ExitStack() as stack:
        if dtype == "float32":
            stack.enter_context(jax.default_matmul_precision("highest"))
        yield


@contextmanager
def devices_in_force(layout: DeviceLayout) -> Iterator[None]:
    """Within this, passes are spread as the layout says, and refused (`MemoryShort`) where they do not fit."""
    with ExitStack() as stack:
        if layout.mesh is not None:
            stack.enter_context(jax.set_mesh(layout.mesh))
        stack.enter_context(memory_planned(partial(free_memory, layout)))
        yield
