"""JAX's cache of compiled programs on disk: where it lies, and what a process leaves that died while it wrote there.

JAX writes a program as `KEY-cache` and then the time of its last use as `KEY-atime`, neither of them atomically. A kill
in between leaves a program that may be cut short and has no time; from then on no program can be added, because JAX
reads all times for that. Source: `jax/_src/lru_cache.py`, JAX 0.10; JAX 0.12 gets along with such a cache itself.
"""

import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_FOLDER: Final = "JAX_COMPILATION_CACHE_DIR"
_PROGRAM, _TIME, _LOCK = "-cache", "-atime", ".lockfile"

# Seconds to wait for other processes that use the cache.
PATIENCE: Final = 10.0


def keep_programs(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Have JAX keep its compiled programs on disk: in `xmflow_jax/compiled` of the user's folder for caches.

    To be called before JAX is imported. Settings that are there already win. Nothing is kept where JAX's cache is
    switched off, and where its folder cannot be made or written: JAX would complain of each program.

    Args:
        environment: holds JAX's settings, and takes ours.

    Returns:
        The folder that cannot be used; None where all is well.
    """
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30))
    if environment.get("JAX_ENABLE_COMPILATION_CACHE", "").lower() in ("0", "false"):
        return None
    named = environment.get(_FOLDER) or _usual_folder(environment)
    if named is None:
        return "the home folder, which is not known"
    if "://" not in named and not _made(Path(named)):
        environment[_FOLDER] = ""
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        return named
    environment[_FOLDER] = named
    return None


def _usual_folder(environment: Mapping[str, str]) -> str | None:
    caches = environment.get("XDG_CACHE_HOME", "")
    try:
        home = Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a name, as in containers
        return None
    return str(home / "xmflow_jax" / "compiled")


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def remove_unfinished_programs(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Remove the programs that a killed process did not finish writing; returns the files' names.

    To be called before JAX reads the cache. Does nothing where JAX keeps no times, because its cache has no limit or
    is not on this machine, and gives up where the cache is in use for long or cannot be written.

    Args:
        environment: holds JAX's settings.
    """
    named = environment.get(_FOLDER)
    if not named or environment.get("JAX_COMPILATION_CACHE_MAX_SIZE", "-1") == "-1" or not _is_folder(named):
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


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # one may not look there
        return False
