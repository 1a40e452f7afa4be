"""A run folder's tables, read from its parts; no lock is taken: parts appear whole, so reading beside a run is safe."""

from pathlib import Path

import pandas as pd

from xmflow_jax.run.parts import file_of, read_parts, write_atomically


def read_rows(folder: str | Path) -> pd.DataFrame:
    """All rows of a run folder in `ROW_SCHEMA`'s columns, sorted by task, question, kind, mode, pathway,
    style, layer, control and head.

    Takes no lock: parts appear whole, so reading beside a running study is safe.

    Raises:
        RunFolderError: a part is unreadable or of another layout, or a row is there twice.
    """
    return read_parts(Path(folder), "part")


def read_skipped(folder: str | Path) -> pd.DataFrame:
    """The questions without rows in `SKIPPED_SCHEMA`'s columns, sorted by task and question; no lock either.

    Raises:
        RunFolderError: as for `read_rows`.
    """
    return read_parts(Path(folder), "skipped")


def read_lens(folder: str | Path) -> pd.DataFrame:
    """The lens rows in `LENS_SCHEMA`'s columns, of questions with result rows alone, sorted by task, question and
    layer; no lock either. Probabilities that a row does not have are NaN.

    Raises:
        RunFolderError: as for `read_rows`.
    """
    return read_parts(Path(folder), "lens")


def read_cards(folder: str | Path) -> pd.DataFrame:
    """The questions that a report shows singly, in `CARD_SCHEMA`'s columns, sorted by task and question; no lock.

    Raises:
        RunFolderError: as for `read_rows`.
    """
    return read_parts(Path(folder), "cards")


def read_answers(folder: str | Path) -> pd.DataFrame:
    """An evaluation's rows in `ANSWER_SCHEMA`'s columns, sorted by task and question; no lock either. Scores that a row
    does not have are NaN.

    Raises:
        RunFolderError: as for `read_rows`.
    """
    return read_parts(Path(folder), "answers")


def write_lens(folder: str | Path, lens: pd.DataFrame) -> None:
    """Write `lens.parquet` from what `read_lens` gave.

    Raises:
        RunFolderError: it cannot be written.
    """
    write_atomically(Path(folder) / "lens.parquet", file_of(lens, "lens"))
