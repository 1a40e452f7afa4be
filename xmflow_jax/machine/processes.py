"""A sweep by several processes, on one machine or many: who answers what, and how they come together.

Processes whose own devices hold the model need nothing of each other: each answers its share of every task's questions
into a folder of its own beside the results, `processes/NNNNN`. Where the model is spread over more devices than a
process has, the processes of a group answer the same questions in step, and the first of them writes. The very first
process takes all rows over into the run folder, also those that a killed run left, and reports.

Source of the cluster's shape: `jax.distributed`, which finds it on TPU pods, under Slurm and Open MPI, or is told.
"""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xmflow_jax.errors import OptionError, ProcessLost
from xmflow_jax.machine.mesh import AUTO

if TYPE_CHECKING:
    from xmflow_jax.run.folder import RunFolder
    from xmflow_jax.study.task_studies import TaskStudy

FOLDER: Final = "processes"
# Made by a process that has answered its share.
FINISHED: Final = "finished"

# Seconds between two looks at the others.
PATIENCE: Final = 0.2

# JAX ends all processes when one of them has been silent for so many seconds. Processes in step would wait for a lost
# one forever; others go on without it.
SILENCE_IN_STEP: Final = 100
SILENCE: Final = 10**7


@dataclass(frozen=True)
class Processes:
    """Those of a run, and this one among them.

    Attributes:
        index: this one's, from 0.
        count: of all.
        in_step: how many consecutive ones answer the same questions.
    """

    index: int = 0
    count: int = 1
    in_step: int = 1

    @property
    def first(self) -> bool:
        """This is the one that reports."""
        return self.index == 0

    @property
    def writes(self) -> bool:
        """This one's rows count; of processes in step the first one's do."""
        return self.index % self.in_step == 0

    @property
    def writers(self) -> range:
        """The processes whose rows count, but for the very first one."""
        return range(self.in_step, self.count, self.in_step)

    def own_share(self, studies: "Sequence[TaskStudy]") -> "list[TaskStudy]":
        """Every group's share of every task's questions: one after the other in turns."""
        group, groups = self.index // self.in_step, self.count // self.in_step
        return [replace(study, questions=study.questions[group::groups]) for study in studies]


def check_told(
    distributed: bool, mesh: str | None, coordinator: str | None, processes: int | None, process: int | None
) -> None:
    """All of the three that tell of the processes, or none; and a mesh that they can have.

    Raises:
        OptionError: otherwise.
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
    """Start `jax.distributed`; to be called before anything else of JAX.

    Args:
        coordinator: host and port of the first process; None, and None for the others: JAX finds out.
        model_devices: that the model is to be spread over.

    Raises:
        OptionError: there is no cluster that JAX knows, or the model's devices do not go up in whole processes.
    """
    import jax

    # Alone, processes outlive each other.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=SILENCE_IN_STEP)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OptionError(
            f"--distributed: {reason}; under Slurm, Open MPI or on a TPU pod JAX finds the processes itself, elsewhere "
            "give --coordinator HOST:PORT, --processes N and --process I"
        ) from None
    own = len(jax.local_devices())
    in_step = max(1, -(-model_devices // own))
    processes = Processes(jax.process_index(), jax.process_count(), in_step)
    if (in_step > 1 and model_devices % own) or processes.count % in_step:
        raise OptionError(
            f"--mesh model={model_devices}: {processes.count} processes of {own} devices each cannot be grouped so"
        )
    return processes


def meet(name: str) -> None:
    """Wait until all processes are here."""
    from jax.experimental.multihost_utils import sync_global_devices

    sync_global_devices(name)


def folder_of(run: Path, index: int) -> Path:
    """Where a process's rows land."""
    return run / FOLDER / f"{index:05d}"


def take_over(run: "RunFolder") -> None:
    """All rows that processes left beside the results become the run's own, and their folders go.

    Raises:
        RunFolderError: a process that still runs holds one of them, or one cannot be read or removed.
    """
    place = run.path / FOLDER
    for folder in sorted(place.glob("*")):
        if folder.is_dir():
            run.adopt(folder)
    shutil.rmtree(place, ignore_errors=True)


def say_finished(run: Path, index: int) -> None:
    """This process has answered its share; its folder is closed after that."""
    (folder_of(run, index) / FINISHED).touch()


def wait_for_writers(run: Path, processes: Processes) -> list[int]:
    """Wait until every other process that writes has answered its share, or is gone; returns those that are gone."""
    lost = []
    for index in processes.writers:
        folder = folder_of(run, index)
        while not (folder / FINISHED).exists():
            if not _held(folder):
                # It may have finished just before.
                if not (folder / FINISHED).exists():
                    lost.append(index)
                break
            time.sleep(PATIENCE)
        while _held(folder):  # it closes its folder
            time.sleep(PATIENCE)
    return lost


def wait_for_first(run: Path) -> None:
    """Wait until the first process has taken all rows over.

    Raises:
        ProcessLost: it is gone before that.
    """
    while (run / FOLDER).exists():
        if not _held(run) and (run / FOLDER).exists():
            raise ProcessLost(
                "process 0 ended before it had taken the others' rows over; what was finished is kept, and the same "
                "command goes on from there"
            )
        time.sleep(PATIENCE)


@contextmanager
def share(
    run: Path, processes: Processes, opened: "Callable[[Path], RunFolder]", scratch: Path
) -> "Iterator[RunFolder]":
    """The run folder that this process writes into while it answers its share.

    The first process opens the run's own, and takes over what a killed run left before the others begin; these come
    back once it has taken over theirs.

    Args:
        opened: opens (or resumes) a folder for this run's configuration.
        scratch: for the rows of processes that follow another one in step, which do not count.

    Raises:
        RunFolderError: as for `open_run`.
        ProcessLost: the first process is gone before it has taken all rows over.
    """
    if processes.count == 1:
        with opened(run) as folder:
            take_over(folder)
            yield folder
    elif processes.first:
        with opened(run) as folder:
            take_over(folder)
            (run / FOLDER).mkdir()
            meet("the run is open")
            meet("everybody's folder is open")
            yield folder
    else:
        meet("the run is open")
        with opened(folder_of(run, processes.index) if processes.writes else scratch / FOLDER) as folder:
            meet("everybody's folder is open")
            yield folder
            if processes.writes:
                say_finished(run, processes.index)
        wait_for_first(run)


def gather(run: "RunFolder", processes: Processes) -> None:
    """Take over the rows of all other processes, once these have answered their shares.

    Raises:
        ProcessLost: some are gone before that; what they and the others finished is taken over.
    """
    if processes.count == 1:
        return
    lost = wait_for_writers(run.path, processes)
    take_over(run)
    if lost:
        raise ProcessLost(
            f"{len(lost)} of {processes.count} processes ended before their questions were answered "
            f"({', '.join(f'process {index}' for index in lost)}); what was finished is kept, and the same command "
            "goes on from there"
        )


def _held(folder: Path) -> bool:
    """Whether a living process holds the run folder's lock."""
    try:
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
