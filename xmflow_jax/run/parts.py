"""Parquet parts: a study's rows on disk, each part whole or not there at all.

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
from xmflow_jax.run.schemas import KEYS, MEASURED, SCHEMAS

# A question in a part of these needs no more work. The others belong to the result part of their number, land just
# before it, and count only once that is there.
FINISHING: Final = ("part", "skipped", "answers")
TEMPORARY: Final = ".xmflow-partial"
_NAME: Final = re.compile(r"(part|skipped|lens|cards|answers)-(\d{5,})\.parquet(\.unreadable)?")


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a later run, sees either the whole file or the old state.

    Raises:
        RunFolderError: the file cannot be written, such as on a full disk.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
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
    write_atomically(path, _encoded(table))


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


def next_number(folder: Path) -> int:
    """One more than any part's number. Unreadable parts count, so that what may be rescued is never overwritten."""
    return max((int(match[2]) for match, _ in _named(folder)), default=-1) + 1


def part_paths(folder: Path, kind: str) -> list[Path]:
    """The kind's parts in the order they were written; none where the folder does not exist.

    A lens or cards part without its result part is none: a killed run left it, or a running one is about to land the
    other.
    """
    numbers = {kind: _numbered(folder, kind) for kind in SCHEMAS}
    return [path for number, path in sorted(numbers[kind].items()) if kind in FINISHING or number in numbers["part"]]


def drop_unpaired(folder: Path) -> None:
    """Delete the lens and cards parts without a result part: their questions will be run again.

    Raises:
        OSError: one cannot be deleted.
    """
    pairs = _numbered(folder, "part")
    for kind in SCHEMAS.keys() - FINISHING:
        for number, path in _numbered(folder, kind).items():
            if number not in pairs:
                path.unlink()


def _numbered(folder: Path, kind: str) -> dict[int, Path]:
    return {int(match[2]): path for match, path in _named(folder) if match[1] == kind and not match[3]}


def _named(folder: Path) -> list[tuple[re.Match[str], Path]]:
    return [(match, path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]


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
        raise RunFolderError(f"{path} was written by another version: its columns differ in {', '.join(differing)}")
    return table


def read_parts(folder: Path, kind: str) -> pd.DataFrame:
    """All rows of a kind, sorted by their key, whatever the order in which the parts were written.

    Raises:
        RunFolderError: a part is unreadable or of another layout, or a row is there twice.
    """
    tables = [SCHEMAS[kind].empty_table()]
    for path in part_paths(folder, kind):
        table = read_part(path, kind)
        if table is None:
            raise RunFolderError(f"{path} is truncated or damaged; resume the run to have its questions run again")
        tables.append(table)
    key = KEYS[kind]
    rows = pa.concat_tables(tables).to_pandas().sort_values(key, kind="stable", ignore_index=True)
    repeated = rows.loc[rows.duplicated(key), key]
    if len(repeated):
        first = ", ".join(str(value) for value in repeated.iloc[0])
        raise RunFolderError(f"{folder} holds {len(repeated)} rows twice, the first is ({first})")
    return rows


def put_unreadable_away(folder: Path) -> list[str]:
    """Rename the parts that are truncated or damaged to `*.unreadable`; returns their names before that.

    A damaged lens or cards part takes its result part with it: both are made again.

    Raises:
        OSError: a part cannot be renamed.
        RunFolderError: as for `read_part`.
    """
    names = []
    for kind in SCHEMAS:
        for path in part_paths(folder, kind):
            if read_part(path, kind) is None:
                pair = path if kind in FINISHING else path.with_name(path.name.replace(kind, "part"))
                for one in dict.fromkeys((pair, path)):
                    one.rename(one.with_name(f"{one.name}.unreadable"))
                    names.append(one.name)
    return names
