"""The processes of a distributed run, on one machine or many: how they join, who answers what, and where they meet.

Processes whose own devices hold the model need nothing of each other: each answers its share of every task's questions.
Where the model is spread over more devices than a process has, the processes of a group answer the same questions in
step, and only the first of the group writes. `xmflow_jax.run.sharing` brings their rows together in one run folder.

Source of the cluster's shape: `jax.distributed`, which finds it on TPU pods, under Slurm and Open MPI, or is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from xmflow_jax.errors import OptionError
from xmflow_jax.machine.backend import check_devices
from xmflow_jax.machine.mesh import AUTO

T = TypeVar("T")

# After this many seconds of a process's silence JAX takes it for lost, so that processes in step do not wait for it
# forever.
SILENCE: Final = 100


@dataclass(frozen=True)
class Processes:
    """The processes of one run, and this process's number among them.

    Attributes:
        index: this process's number, from 0.
        count: how many processes there are.
        in_step: how many consecutive processes answer the same questions, because they hold one model together.
    """

    index: int = 0
    count: int = 1
    in_step: int = 1

    @property
    def first(self) -> bool:
        """Whether this is process 0, which takes all rows over and reports."""
        return self.index == 0

    @property
    def writes(self) -> bool:
        """Whether this process's rows count; of the processes in step only the first one's do."""
        return self.index % self.in_step == 0

    @property
    def writers(self) -> range:
        """The processes whose rows count, without process 0."""
        return range(self.in_step, self.count, self.in_step)

    @property
    def group(self) -> range:
        """The processes in step with this one, itself included."""
        first = self.index - self.index % self.in_step
        return range(first, first + self.in_step)

    def own_share(self, items: Sequence[T]) -> Sequence[T]:
        """What this process's group answers of some questions: with three groups every third one, in order."""
        group, groups = self.index // self.in_step, self.count // self.in_step
        return items[group::groups]


ALONE: Final = Processes()


def check_process_options(
    distributed: bool, mesh: str | None, coordinator: str | None, processes: int | None, process: int | None
) -> None:
    """Refuse options about processes that do not go together.

    `--coordinator`, `--processes` and `--process` are given all together, with `--distributed`, or not at all; and
    `--mesh auto` is for one process.

    Raises:
        OptionError: the options do not go together, or a number is out of its range.
    """
    told = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    given = [name for name, value in told.items() if value is not None]
    if given and not distributed:
        raise OptionError(f"{given[0]} goes with --distributed")
    if missing := [name for name in told if name not in given and given]:
        raise OptionError(f"--distributed: {' and '.join(given)} without {' and '.join(missing)}")
    if distributed and mesh is not None and mesh.strip() == AUTO:
        raise OptionError("--mesh auto is for one process; with --distributed say how far the model goes: model=M")
    if processes is not None and processes < 1:
        raise OptionError(f"--processes {processes} is not 1 or more")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise OptionError(f"--process {process} is not one of 0 to {processes - 1}")


def join(coordinator: str | None, count: int | None, index: int | None, model_devices: int) -> Processes:
    """Start `jax.distributed`. To be called before anything else of JAX.

    Args:
        coordinator: host and port of process 0; None, with `count` and `index` None too: JAX finds out.
        count: how many processes there are.
        index: this process's number, from 0.
        model_devices: the devices that the model is to be spread over.

    Raises:
        OptionError: there is no cluster that JAX knows, or the model's devices are not those of whole processes.
    """
    import jax

    # Processes that are not in step outlive each other.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=SILENCE)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OptionError(
            f"--distributed: {reason}; under Slurm, Open MPI or on a TPU pod JAX finds the processes itself, elsewhere "
            "give --coordinator HOST:PORT, --processes N and --process I"
        ) from None
    check_devices()
    own = len(jax.local_devices())
    in_step = max(1, -(-model_devices // own))
    processes = Processes(jax.process_index(), jax.process_count(), in_step)
    if (in_step > 1 and model_devices % own) or processes.count % in_step:
        raise OptionError(
            f"--mesh model={model_devices}: {processes.count} processes of {own} devices each cannot be grouped so"
        )
    return processes


def meet(name: str) -> None:
    """Wait until every process of the run has called this with the same name."""
    from jax.experimental.multihost_utils import sync_global_devices

    sync_global_devices(name)
