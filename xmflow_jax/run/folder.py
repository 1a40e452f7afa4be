"""The run folder: where a study's results land, so that a killed run loses nothing that was finished.

    run.json                       configuration, its digest, a provenance entry per session, set-aside questions
    results/part-NNNNN.parquet     rows (`ROW_SCHEMA`); all rows of a question lie in one part
    results/answers-NNNNN.parquet  an evaluation's rows (`ANSWER_SCHEMA`), in place of the above
    lens/lens-NNNNN.parquet        the answers of the same questions tracked through the layers (`LENS_SCHEMA`)
    cards/cards-NNNNN.parquet      a few of the same questions as the report shows them singly (`CARD_SCHEMA`)
    skipped/skipped-NNNNN.parquet  questions that have no rows and why (`SKIPPED_SCHEMA`)
    unreadable/                    parts that were found damaged
    lens.parquet                   all lens rows in one file, made by the report
    figures/                       filled by the report

A folder holds one kind of table, so that whatever reads all Parquet files of `results/` reads the rows and no others.
The parts are the only truth about progress. Most are written once and never again. Questions without rows come singly,
and thousands of them: the last skipped part grows, replaced whole each time, up to a thousand of them. `run.json`
repeats for people what the skipped parts say: it is rewritten from them when a run is opened, when it is closed, and by
`RunFolder.write_record`. After a kill it may lag behind until the run is resumed. To have skipped questions tried
again, delete the folder `skipped`.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa

from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.growing import growing_part, grown
from xmflow_jax.run.parts import (
    PLACES,
    TEMPORARY,
    drop_unpaired,
    move_old_parts,
    next_number,
    part_path,
    put_unreadable_away,
    questions_of,
    table_of,
    write_atomically,
    write_part,
)
from xmflow_jax.run.place import check_folder, finished_questions, free_bytes, lock_folder, make_folder
from xmflow_jax.run.record import configuration_digest, read_record, refuse_other_content
from xmflow_jax.run.schemas import (
    ANSWER_SCHEMA,
    CARD_SCHEMA,
    FOLDERS,
    LENS_SCHEMA,
    NOT_SELECTED,
    ROW_SCHEMA,
    SCHEMAS,
    SET_ASIDE,
    SKIPPED_SCHEMA,
)
from xmflow_jax.run.tables import read_answers, read_cards, read_lens, read_rows, read_skipped, write_lens

__all__ = [
    "ANSWER_SCHEMA",
    "CARD_SCHEMA",
    "LENS_SCHEMA",
    "NOT_SELECTED",
    "ROW_SCHEMA",
    "SET_ASIDE",
    "SKIPPED_SCHEMA",
    "RunFolder",
    "check_folder",
    "configuration_digest",
    "finished_questions",
    "free_bytes",
    "make_folder",
    "open_run",
    "read_answers",
    "read_cards",
    "read_lens",
    "read_record",
    "read_rows",
    "read_skipped",
    "write_atomically",
    "write_lens",
]


def open_run(
    path: str | Path, configuration: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
) -> "RunFolder":
    """Create a run folder, or resume the run that lies there, and hold its lock until `close`.

    Leftovers of a killed run are removed, and a part that cannot be read in full (its machine died) is moved to
    `unreadable/` so that its questions are run again; `RunFolder.unreadable` and `run.json` name it. A folder
    of before, in which parts of all kinds lay in `results/`, is put in order.

    Args:
        path: the folder; it and its parents are created.
        configuration: JSON values that decide the results, digests of weights and data included. A run is resumed
            only with an equal one.
        provenance: JSON values that describe this session without deciding its results: versions, backend, ...

    Raises:
        RunFolderError: a file is in the folder's place, it cannot be written, it holds another run or other results,
            or a running process uses it.
    """
    folder = Path(path)
    plain = json.loads(json.dumps(configuration, allow_nan=False))  # as a resumed run will read it: tuples are lists
    make_folder(folder)
    refuse_other_content(folder, plain)  # before the lock, so that a refused folder is left exactly as it was
    lock = lock_folder(folder)
    try:
        refuse_other_content(folder, plain)  # again: another process may have come and gone in between
        return RunFolder(folder, lock, plain, provenance or {})
    except BaseException:
        lock.close()
        raise


class RunFolder:
    """One locked run folder, made by `open_run`; a context manager that closes itself.

    Attributes:
        path: the folder.
        figures: where figures go.
        unreadable: names of the parts that this session found unreadable and put out of the way.
    """

    def __init__(self, path: Path, lock: IO[str], configuration: dict[str, Any], provenance: Mapping[str, Any]) -> None:
        self.path = path
        self.figures = path / "figures"
        self._lock = lock
        self._configuration = configuration
        record = read_record(path)
        self._sessions: list[Any] = record["sessions"] if record else []
        if record is None:  # written before the folders: results without a run.json are somebody else's
            self._write_json({"counts": {}, "set_aside": []})
        try:
            for inner in {*FOLDERS.values(), self.figures.name}:
                (path / inner).mkdir(exist_ok=True)
            for inner in ("", *PLACES, self.figures.name):
                for leftover in (path / inner).glob(f".*{TEMPORARY}"):
                    leftover.unlink()
            move_old_parts(path)
            self.unreadable = tuple(put_unreadable_away(path))
            drop_unpaired(path)
        except OSError as error:
            raise RunFolderError(f"cannot write in {path}: {error.strerror}") from error
        self._number = next_number(path, SCHEMAS.keys() - {"skipped"})
        self._growing = growing_part(path)
        self._finished = questions_of(read_rows(path)) | questions_of(read_answers(path))
        self._skipped = questions_of(read_skipped(path))
        self._sessions.append(
            {
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "finished_before": len(self._finished),
                "unreadable_parts": list(self.unreadable),
                **provenance,
            }
        )
        self.write_record()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.close()
        except RunFolderError:
            # What ended the run is the news; on a full disk the record cannot be written either, and need not be.
            if exception[0] is None:
                raise

    def append_part(
        self,
        rows: Iterable[Mapping[str, Any]],
        lens: Iterable[Mapping[str, Any]] = (),
        cards: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Land all rows of one or more questions as one part, or none of them; no rows, no part.

        Args:
            lens: lens rows (`LENS_SCHEMA`) of the same questions. They land first, as a part that counts once the
                result rows have landed too.
            cards: rows of `CARD_SCHEMA`, of some of the same questions; they land in the same way.

        Raises:
            ValueError: a row does not fit its schema (see `table_of`), its question was finished before, or lens rows
                or a card are about a question without result rows.
            RunFolderError: the part cannot be written.
        """
        self._finished |= self._append("part", rows, {"lens": lens, "cards": cards})

    def append_answers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Land an evaluation's rows of some questions as one part, or none of them; no rows, no part.

        Raises:
            ValueError: a row does not fit `ANSWER_SCHEMA` (see `table_of`), or its question was finished before.
            RunFolderError: the part cannot be written.
        """
        self._finished |= self._append("answers", rows)

    def append_skipped(self, questions: Iterable[Mapping[str, Any]]) -> None:
        """Remember questions that have no rows (`SKIPPED_SCHEMA`), so that a resumed run leaves them out.

        Raises:
            ValueError: a row does not fit `SKIPPED_SCHEMA` (see `table_of`), its question was finished before, or its
                `kind` is neither SET_ASIDE nor NOT_SELECTED.
            RunFolderError: the part cannot be written.
        """
        questions = list(questions)
        for question in questions:
            if question.get("kind") not in (SET_ASIDE, NOT_SELECTED):
                raise ValueError(f"kind is {question.get('kind')!r}; it is {SET_ASIDE!r} or {NOT_SELECTED!r}")
        table, found = self._checked(questions, "skipped")
        if found:
            self._growing = grown(self.path, self._growing, table)
        self._skipped |= found

    def finished_questions(self) -> set[tuple[str, str]]:
        """`(task, question_id)` of every question that needs no more work: with rows, set aside or not selected."""
        return self._finished | self._skipped

    def read_rows(self) -> pd.DataFrame:
        """All result rows that have landed (`xmflow_jax.run.tables.read_rows`)."""
        return read_rows(self.path)

    def read_answers(self) -> pd.DataFrame:
        """All rows of an evaluation that have landed (`xmflow_jax.run.tables.read_answers`)."""
        return read_answers(self.path)

    def read_skipped(self) -> pd.DataFrame:
        """All questions without rows (`xmflow_jax.run.tables.read_skipped`)."""
        return read_skipped(self.path)

    def write_record(self) -> None:
        """Bring `run.json` up to date: counts of questions, and each set-aside one with its reason.

        Raises:
            RunFolderError: it cannot be written.
        """
        skipped = read_skipped(self.path)
        aside = skipped.loc[skipped["kind"] == SET_ASIDE, ["question_id", "task", "reason"]]
        unselected = skipped.loc[skipped["kind"] == NOT_SELECTED, "task"].value_counts().sort_index()
        counts = {
            "finished": len(self._finished),
            "set_aside": len(aside),
            "not_selected": {str(task): int(count) for task, count in unselected.items()},
        }
        self._write_json({"counts": counts, "set_aside": aside.to_dict("records")})

    def close(self) -> None:
        """Bring `run.json` up to date and release the lock; a second call does nothing."""
        if self._lock.closed:
            return
        try:
            self.write_record()
        finally:
            self._lock.close()

    def _write_json(self, progress: Mapping[str, Any]) -> None:
        record = {
            "configuration": self._configuration,
            "configuration_sha256": configuration_digest(self._configuration),
            "sessions": self._sessions,
            **progress,
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        # A file's name need not be UTF-8: what is not is spelt `\\udc..`, which JSON's readers take back.
        write_atomically(self.path / "run.json", f"{text}\n".encode(errors="backslashreplace"))

    def _append(
        self,
        kind: str,
        rows: Iterable[Mapping[str, Any]],
        beside: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    ) -> set[tuple[str, str]]:
        table, questions = self._checked(rows, kind)
        tables = {name: table_of(own, name) for name, own in (beside or {}).items()}
        for name, own in tables.items():
            if strange := questions_of(own.to_pandas()) - questions:
                raise ValueError(f"question {min(strange)} has {name} rows but no result rows")
        for name, own in tables.items():
            if own.num_rows:
                write_part(part_path(self.path, name, self._number), own)
        if questions:
            write_part(part_path(self.path, kind, self._number), table)
            self._number += 1
        return questions

    def _checked(self, rows: Iterable[Mapping[str, Any]], kind: str) -> tuple[pa.Table, set[tuple[str, str]]]:
        """New rows as a table, and their questions, of which none was finished before."""
        if self._lock.closed:
            raise ValueError(f"the run folder {self.path} is closed")
        table = table_of(rows, kind)
        questions = questions_of(table.to_pandas())
        if again := (questions & self._finished) | (questions & self._skipped):
            raise ValueError(f"question {min(again)} was finished before")
        return table, questions
