"""The place of a run folder: may it be written, which questions are finished there, is there room; and its lock."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.parts import FINISHING, part_paths, questions_of, read_part
from xmflow_jax.run.record import refuse_other_content

LOCK: Final = ".lock"


def finished_questions(folder: str | Path) -> set[tuple[str, str]]:
    """`(task, question_id)` of what a resumed run would not run again; takes no lock and changes nothing.

    Raises:
        RunFolderError: a part is of another layout.
    """
    finished = set()
    for kind in FINISHING:
        for path in part_paths(Path(folder), kind):
            if (table := read_part(path, kind)) is not None:  # a damaged part's questions are run again
                finished |= questions_of(table.to_pandas())
    return finished


def check_folder(path: str | Path, configuration: Mapping[str, Any] | None = None) -> None:
    """Refuse a folder that `open_run` would refuse, without writing anything. A folder in use is not refused here.

    Args:
        path: the folder, which need not exist.
        configuration: JSON values that decide the results, which must be those of a run that lies there; None: not
            known yet, and not compared.

    Raises:
        RunFolderError: a file is in the folder's place, it cannot be written, or it holds another run or other results.
    """
    folder = Path(path)
    place = _existing(folder)
    if not place.is_dir():
        raise RunFolderError(f"a file is in the place of the run folder {folder}; give another path")
    effective = os.access in os.supports_effective_ids
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=effective):
        raise RunFolderError(f"cannot write in {place}; give a run folder in a place that may be written")
    if configuration is not None:
        refuse_other_content(folder, json.loads(json.dumps(configuration, allow_nan=False)))


def free_bytes(path: str | Path) -> int:
    """Free space for this user on the disk that holds, or will hold, a folder."""
    return shutil.disk_usage(_existing(Path(path))).free


def _existing(path: Path) -> Path:
    """The path, or its nearest ancestor that is there."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if os.path.lexists(one))


def make_folder(folder: Path) -> None:
    """Make the folder and its parents, where they are not there yet.

    Raises:
        RunFolderError: a file is in the place of one of them, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunFolderError(f"a file is in the place of the run folder {folder}; give another path") from error
    except OSError as error:
        raise RunFolderError(f"cannot create the run folder {folder}: {error.strerror}") from error


def lock_folder(folder: Path) -> IO[str]:
    """Lock a run folder for this process. The kernel drops the lock with the process, however that ends.

    Returns:
        The lock file; closing it drops the lock.

    Raises:
        RunFolderError: a running process holds the lock, or the lock file cannot be written.
    """
    path = folder / LOCK
    try:
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"cannot write in {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip()
        lock.close()
        raise RunFolderError(
            f"{folder} is in use by a running process ({owner or 'unknown'}); wait for it or give another folder"
        ) from error
    except OSError as error:
        lock.close()
        raise RunFolderError(f"cannot lock {path}: {error.strerror}") from error
    # The owner's name is for people: on a full disk the lock holds without it. Past the file object's own buffer, which
    # would fail once more when it is closed.
    with suppress(OSError):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"process {os.getpid()}".encode())
    return lock


def is_locked(folder: Path) -> bool:
    """Whether a living process holds the run folder's lock; False where there is no folder or no lock."""
    try:
        with (folder / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
