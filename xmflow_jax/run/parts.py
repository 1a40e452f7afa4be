"""Parquet parts: a study's rows on disk, each part whole or not there at all, each kind in a folder of its own.

A part is written under a temporary name, fsynced and renamed. Its pages carry checksums, because a page damaged by a
dying machine may still decode, to other numbers. `xmflow_jax.run.folder` builds the resumable run folder from these.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.schemas import FOLDERS, KEYS, MEASURED, SCHEMAS

# A question in a part of these needs no more work. The others belong to the result part of their number, land just
# before it, and count only once that is there.
FINISHING: Final = ("part", "skipped", "answers")
TEMPORARY: Final = ".xmflow-partial"

# Where parts of every kind lay until this program gave each kind a folder; they still count there.
OLD_PLACE: Final = "results"
# Damaged parts go where no reader of a kind's folder comes across them.
UNREADABLE: Final = "unreadable"
PLACES: Final = (*dict.fromkeys(FOLDERS.values()), UNREADABLE)
_NAME: Final = re.compile(r"(part|skipped|lens|cards|answers)-(\d{5,})\.parquet(\.unreadable)?")


def write_atomically(path: Path, data: bytes, beside: Path | None = None) -> None:
    """Write `data` to `path` so that a reader, or a later run, sees either the whole file or the old state.

    Args:
        beside: the folder, on the same disk, of the file while it is half written; None: the one where it will be.

    Raises:
        RunFolderError: the file cannot be written, such as on a full disk.
    """
    temporary = (beside or path.parent) / f".{path.name}{TEMPORARY}"
    try:
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        # The rename itself outlives a power failure only once the folder is on disk too.
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}") from error


def table_of(rows: Iterable[Mapping[str, Any]], kind: str) -> pa.Table:
    """The rows as a table in exactly the kind's schema.

    Raises:
        ValueError: a row lacks a column or has one too many, a value is missing, two rows have one key, or a number
            is not finite (a measure's column may be NaN where the measure says that it is undefined).
    """
    rows, schema = list(rows), SCHEMAS[kind]
    for row in rows:  # pyarrow would fill an absent column with nulls and drop an unknown one
        if row.keys() != set(schema.names):
            wrong = sorted(row.keys() ^ set(schema.names))
            raise ValueError(f"a row's columns differ from {kind!r} rows' in {wrong}")
    table = pa.Table.from_pylist(rows, schema=schema)
    for field in schema:
        if table[field.name].null_count and not field.nullable:
            raise ValueError(f"a row has no {field.name}")
    frame = table.to_pandas()
    if frame.duplicated(KEYS[kind]).any():
        raise ValueError(f"two rows have the same {', '.join(KEYS[kind])}")
    for name in (field.name for field in schema if pa.types.is_floating(field.type)):
        allowed = np.isfinite(frame[name])
        if kind == "part" and name in MEASURED and (undefined := MEASURED[name].undefined) is not None:
            allowed |= frame[name].isna() & undefined(frame)
        allowed |= np.asarray(table[name].is_null())
        if not allowed.all():
            row = frame[~allowed].iloc[0]
            raise ValueError(f"{name} of question {row['question_id']!r} ({row['task']}) is {row[name]}")
    return table


def write_part(path: Path, table: pa.Table) -> None:
    """Land `table` as the part `path`.

    Raises:
        RunFolderError: the part cannot be written.
    """
    # Half written it is no business of those who read all files of the kind's folder.
    write_atomically(path, _encoded(table), path.parent.parent)


def part_bytes(rows: Iterable[Mapping[str, Any]], kind: str = "part") -> int:
    """The size on disk of these rows as one part.

    Raises:
        ValueError: as for `table_of`.
    """
    return len(_encoded(table_of(rows, kind)))


def file_of(rows: pd.DataFrame, kind: str) -> bytes:
    """Rows that `read_parts` gave, as one Parquet file; the same rows give the same bytes."""
    table = pa.Table.from_pandas(rows, schema=SCHEMAS[kind], preserve_index=False)
    return _encoded(table.replace_schema_metadata(None))


def _encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def questions_of(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """`(task, question_id)` of the rows."""
    unique = rows[["task", "question_id"]].drop_duplicates()
    return set(zip(unique["task"], unique["question_id"], strict=True))


def part_path(run: Path, kind: str, number: int) -> Path:
    """Where a part of a run folder lies."""
    return run / FOLDERS[kind] / f"{kind}-{number:05d}.parquet"


def next_number(run: Path, kinds: Iterable[str]) -> int:
    """One more than the number of any part of these kinds. Unreadable parts count, so that what may be rescued is never
    overwritten.
    """
    return max((int(match[2]) for match, _ in _named(run, PLACES) if match[1] in kinds), default=-1) + 1


def part_paths(run: Path, kind: str) -> list[Path]:
    """The kind's parts in the order they were written; none where the run folder does not exist.

    A lens or cards part without its result part is none: a killed run left it, or a running one is about to land the
    other.
    """
    rows = _numbered(run, "part")
    return [path for number, path in sorted(_numbered(run, kind).items()) if kind in FINISHING or number in rows]


def parts_beside(run: Path, path: Path) -> dict[str, Path]:
    """The lens and cards parts of the questions of a result part, by their kinds."""
    number = _number_of(path)
    numbered = {kind: _numbered(run, kind) for kind in SCHEMAS if kind not in FINISHING}
    return {kind: own[number] for kind, own in numbered.items() if number in own}


def drop_unpaired(run: Path) -> None:
    """Delete the lens and cards parts without a result part: their questions will be run again.

    Raises:
        OSError: one cannot be deleted.
    """
    pairs = _numbered(run, "part")
    for kind in SCHEMAS.keys() - FINISHING:
        for number, path in _numbered(run, kind).items():
            if number not in pairs:
                path.unlink()


def move_old_parts(run: Path) -> None:
    """Give the parts of a run folder of before, in which all kinds lay together, to the folders of their kinds.

    A kill in between does no harm: a part counts in either place.

    Raises:
        OSError: one cannot be moved.
    """
    for match, path in _named(run, [OLD_PLACE]):
        place = UNREADABLE if match[3] else FOLDERS[match[1]]
        if place != OLD_PLACE:
            (run / place).mkdir(exist_ok=True)
            path.rename(run / place / path.name)


def _number_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match[2])


def _numbered(run: Path, kind: str) -> dict[int, Path]:
    # Its own folder last: there a part counts that is in both places.
    places = dict.fromkeys((OLD_PLACE, FOLDERS[kind]))
    return {int(match[2]): path for match, path in _named(run, places) if match[1] == kind and not match[3]}


def _named(run: Path, places: Iterable[str]) -> list[tuple[re.Match[str], Path]]:
    found = (path for place in places for path in (run / place).glob("*"))
    return [(match, path) for path in found if (match := _NAME.fullmatch(path.name))]


def read_part(path: Path, kind: str) -> pa.Table | None:
    """The part's table, or None if the file is truncated or damaged.

    Raises:
        RunFolderError: the file cannot be opened, or is sound but has other columns, so that another version of
            this program must have written it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:  # no proof of damage: the part must not be given up for it
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
    try:
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    except (pa.ArrowException, OSError):
        return None
    if not table.schema.equals(SCHEMAS[kind]):
        differing = sorted(set(map(str, table.schema)) ^ set(map(str, SCHEMAS[kind]))) or ["their order"]
        raise RunFolderError(
            f"{path} was written by another version: its columns differ in {', '.join(differing)}; read it with the "
            "version that wrote it"
        )
    return table


def read_parts(run: Path, kind: str) -> pd.DataFrame:
    """All of a run folder's rows of a kind, sorted by their key, whatever the order in which the parts were written.

    Raises:
        RunFolderError: a part is unreadable or of another layout, or a row is there twice.
    """
    tables = [SCHEMAS[kind].empty_table()]
    for path in part_paths(run, kind):
        table = read_part(path, kind)
        if table is None:
            raise RunFolderError(f"{path} is truncated or damaged; resume the run to have its questions run again")
        tables.append(table)
    key = KEYS[kind]
    rows = pa.concat_tables(tables).to_pandas().sort_values(key, kind="stable", ignore_index=True)
    repeated = rows.loc[rows.duplicated(key), key]
    if len(repeated):
        first = ", ".join(str(value) for value in repeated.iloc[0])
        raise RunFolderError(f"{run} holds {len(repeated)} rows twice, the first is ({first})")
    return rows


def put_unreadable_away(run: Path) -> list[str]:
    """Move the parts that are truncated or damaged to `unreadable/*.unreadable`; returns their names before that.

    A damaged lens or cards part takes its result part with it: both are made again.

    Raises:
        OSError: a part cannot be moved.
        RunFolderError: as for `read_part`.
    """
    names = []
    for kind in SCHEMAS:
        for path in part_paths(run, kind):
            if read_part(path, kind) is None:
                pair = path if kind in FINISHING else _numbered(run, "part")[_number_of(path)]
                for one in dict.fromkeys((pair, path)):
                    (run / UNREADABLE).mkdir(exist_ok=True)
                    one.rename(run / UNREADABLE / f"{one.name}.unreadable")
                    names.append(one.name)
    return names
