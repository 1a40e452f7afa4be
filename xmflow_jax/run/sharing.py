"""One run folder written by several processes: each lands its rows in a folder of its own, process 0 takes them over.

    processes/NNNNN/           the run folder of process NNNNN, while the run goes on
    processes/NNNNN/finished   made by a process that has answered its share

Process 0 writes into the run folder itself. It takes over the rows of all others, also those that a killed run left,
and then removes `processes/`.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import ProcessLost, RunFolderError
from xmflow_jax.machine.processes import Processes, meet
from xmflow_jax.run.folder import RunFolder
from xmflow_jax.run.parts import drop_unpaired, part_paths, parts_beside, put_unreadable_away, read_part
from xmflow_jax.run.place import is_locked, lock_folder

FOLDER: Final = "processes"
FINISHED: Final = "finished"

# Seconds between two looks at the other processes' folders.
PATIENCE: Final = 0.2


def folder_of(run: Path, index: int) -> Path:
    """The folder in which a process other than 0 lands its rows."""
    return run / FOLDER / f"{index:05d}"


def take_over(run: RunFolder) -> None:
    """Take the rows of all folders under `processes/` over into the run folder, and remove these folders.

    Raises:
        RunFolderError: a process that still runs holds one of the folders, or one cannot be read or removed.
    """
    place = run.path / FOLDER
    for folder in sorted(place.glob("*")):
        if folder.is_dir():
            adopt(run, folder)
    shutil.rmtree(place, ignore_errors=True)


def adopt(run: RunFolder, folder: Path) -> None:
    """Take the rows of another process's run folder over, part by part; a part that is taken over is removed there.

    After a kill in between, a part may lie in both folders: it counts once.

    Raises:
        RunFolderError: a running process holds the folder, or one of the folders cannot be written.
    """
    lock = lock_folder(folder)
    try:
        put_unreadable_away(folder)
        drop_unpaired(folder)
        for path in part_paths(folder, "part"):
            _adopt_rows(run, path, parts_beside(folder, path))
        for path in part_paths(folder, "skipped"):
            _adopt_skipped(run, path)
    except OSError as error:
        raise RunFolderError(f"cannot take over {folder}: {error.strerror}") from error
    finally:
        lock.close()


def _adopt_rows(run: RunFolder, path: Path, beside: Mapping[str, Path]) -> None:
    rows = _rows_of(path, "part")
    if not {(row["task"], row["question_id"]) for row in rows} & run.finished_questions():
        run.append_part(rows, **{kind: _rows_of(own, kind) for kind, own in beside.items()})
    # The part first: without it the others count no more.
    for one in (path, *beside.values()):
        one.unlink()


def _adopt_skipped(run: RunFolder, path: Path) -> None:
    done = run.finished_questions()
    run.append_skipped(row for row in _rows_of(path, "skipped") if (row["task"], row["question_id"]) not in done)
    path.unlink()


def _rows_of(path: Path, kind: str) -> list[dict[str, Any]]:
    table = read_part(path, kind)
    return [] if table is None else list(table.to_pylist())


def say_finished(run: Path, index: int) -> None:
    """Mark that a process has answered its share. Its folder is closed after that."""
    (folder_of(run, index) / FINISHED).touch()


def wait_for_writers(run: Path, processes: Processes) -> list[int]:
    """Wait until every other process whose rows count has answered its share, or is gone.

    Returns:
        The numbers of the processes that are gone.
    """
    lost = []
    for index in processes.writers:
        folder = folder_of(run, index)
        while not (folder / FINISHED).exists():
            if not is_locked(folder):
                # It may have finished just before.
                if not (folder / FINISHED).exists():
                    lost.append(index)
                break
            time.sleep(PATIENCE)
        while is_locked(folder):  # it closes its folder
            time.sleep(PATIENCE)
    return lost


def wait_for_first(run: Path) -> None:
    """Wait until process 0 has taken all rows over.

    Raises:
        ProcessLost: process 0 is gone before that.
    """
    while (run / FOLDER).exists():
        if not is_locked(run) and (run / FOLDER).exists():
            raise ProcessLost(
                "process 0 ended before it had taken the others' rows over; what was finished is kept, and the same "
                "command goes on from there"
            )
        time.sleep(PATIENCE)


@contextmanager
def share(run: Path, processes: Processes, opened: Callable[[Path], RunFolder], scratch: Path) -> Iterator[RunFolder]:
    """The run folder that this process writes into while it answers its share.

    Process 0 opens the run's own folder, and takes over what a killed run left before the others begin. Each other
    process leaves this context once process 0 has taken its rows over.

    Args:
        run: the run's own folder.
        opened: opens (or resumes) a folder for this run's options.
        scratch: takes the rows of processes that follow another one in step; these rows do not count.

    Raises:
        RunFolderError: a folder cannot be opened (see `open_run`).
        ProcessLost: process 0 is gone before it has taken all rows over.
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


def gather(run: RunFolder, processes: Processes) -> None:
    """Take over the rows of all other processes, once each has answered its share.

    Raises:
        ProcessLost: some processes are gone before that; whatever any process finished is taken over first.
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
