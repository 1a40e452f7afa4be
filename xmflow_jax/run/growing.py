"""The part that questions without rows go to, one or a few at a time: it grows, so that thousands need few files.

It is replaced whole each time, and a kill leaves what was there before.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from xmflow_jax.run.parts import next_number, part_path, part_paths, read_part, write_part
from xmflow_jax.run.schemas import SKIPPED_SCHEMA

# Rows of a part: few enough to be written anew with each question, enough for few files.
MOST_ROWS: Final = 1000


@dataclass(frozen=True, eq=False)
class GrowingPart:
    """A skipped part.

    Attributes:
        number: of the part.
        table: its rows so far (`SKIPPED_SCHEMA`); none where there is no file yet.
    """

    number: int
    table: pa.Table = field(default_factory=SKIPPED_SCHEMA.empty_table)


def growing_part(run: Path) -> GrowingPart:
    """The part of a run folder that goes on growing: the last one, or a new one where there is none with room."""
    paths, number = part_paths(run, "skipped"), next_number(run, ["skipped"])
    if paths and paths[-1] == part_path(run, "skipped", number - 1):
        last = read_part(paths[-1], "skipped")
        if last is not None and last.num_rows < MOST_ROWS:
            return GrowingPart(number - 1, last)
    return GrowingPart(number)


def grown(run: Path, part: GrowingPart, rows: pa.Table) -> GrowingPart:
    """Land rows as the end of the part; returns what the next rows go to.

    Raises:
        RunFolderError: the part cannot be written; it is as it was then.
    """
    table = pa.concat_tables([part.table, rows])
    write_part(part_path(run, "skipped", part.number), table)
    return GrowingPart(part.number + 1) if table.num_rows >= MOST_ROWS else GrowingPart(part.number, table)
