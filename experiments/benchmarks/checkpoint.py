"""A preset's random checkpoint, written by all processors: one alone takes minutes for seven billion numbers."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

from experiments.benchmarks.workload import Preset
from xmflow_jax.weights import random_checkpoint

# Of a model in bfloat16, which is a large one.
FILES = 32


def write_checkpoint(directory: Path, preset: Preset) -> None:
    """The very files that `write_random` writes, several at a time, each by a thread: NumPy draws beside Python."""
    write_file, pending = random_checkpoint._write_file, list[Future[None]]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def write_later(*given: Any) -> None:
            pending.append(pool.submit(write_file, *given))

        with patch.object(random_checkpoint, "_write_file", write_later):
            files = 1 if preset.dtype == "float32" else FILES
            random_checkpoint.write_random(
                directory, preset.family, preset.model, seed=0, dtype=preset.dtype, shards=files
            )
        for one in pending:
            one.result()
