"""JAX's cache of compiled programs on disk, after a process that died while it wrote there.

JAX writes a program as `KEY-cache` and then the time of its last use as `KEY-atime`, neither of them atomically. A kill
in between leaves a program that may be cut short and has no time; from then on no program can be added, because JAX
reads all times for that. Source: `jax/_src/lru_cache.py`, JAX 0.10; JAX 0.12 gets along with such a cache itself.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROGRAM, _TIME, _LOCK = "-cache", "-atime", ".lockfile"

# Seconds to wait for other processes that use the cache.
PATIENCE: Final = 10.0


def remove_unfinished_programs(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Remove the programs that a killed process did not finish writing; returns the files' names.

    To be called before JAX reads the cache. Does nothing where JAX keeps no times, because its cache has no limit or
    is not on this machine, and gives up where the cache is in use for long or cannot be written.

    Args:
        environment: holds JAX's settings.
    """
    named = environment.get("JAX_COMPILATION_CACHE_DIR")
    if not named or environment.get("JAX_COMPILATION_CACHE_MAX_SIZE", "-1") == "-1" or not Path(named).is_dir():
        return []
    folder = Path(named)
    from filelock import FileLock, Timeout

    removed = []
    with suppress(Timeout, OSError), FileLock(folder / _LOCK, timeout=PATIENCE):
        for program in folder.glob(f"*{_PROGRAM}"):
            key = program.name.removesuffix(_PROGRAM)
            time = folder / f"{key}{_TIME}"
            if not time.is_file() or not time.stat().st_size:
                program.unlink()
                time.unlink(missing_ok=True)
                removed.append(program.name)
    return removed
