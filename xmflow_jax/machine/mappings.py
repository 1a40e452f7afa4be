"""How many memory mappings the compiled programs of a process take: Linux allows so many, and XLA aborts beyond."""

from pathlib import Path
from typing import Final

# A line for each mapping of this process, where the system tells.
_MAPPINGS: Final = Path("/proc/self/maps")
_LIMIT: Final = Path("/proc/sys/vm/max_map_count")

# Of the limit; a batch of a new shape compiles programs that take thousands.
_SHARE: Final = 0.5


def drop_programs_where_many(mappings: Path = _MAPPINGS, limit: Path = _LIMIT) -> bool:
    """Forget JAX's compiled programs where they take half of the mappings that the process may have.

    What is asked for again is compiled again, or read from JAX's cache on disk. Prompts of many lengths (images of many
    sizes) need hundreds of programs, and on CPUs each of them takes dozens of mappings.

    Returns:
        Whether they were dropped.
    """
    try:
        most, taken = int(limit.read_text(encoding="ascii")), mappings.read_bytes().count(b"\n")
    except (OSError, ValueError):
        return False
    if taken <= _SHARE * most:
        return False
    import jax

    jax.clear_caches()
    return True
