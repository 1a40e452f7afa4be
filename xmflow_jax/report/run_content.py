"""What lies in a run folder, read as far as it can be read, and what of it is missing or damaged.

A sweep trusts its folder or refuses it. A report is made of what is there: of a folder whose disk died, or whose run is
not finished, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.folder import read_record
from xmflow_jax.run.parts import part_paths, read_part
from xmflow_jax.run.record import PLANNED_KEY, SHAPE_KEY
from xmflow_jax.run.schemas import KEYS, SCHEMAS

# Damaged parts of a kind that are told one by one.
TOLD_PARTS: Final = 3


@dataclass(frozen=True, eq=False)
class RunContent:
    """A run folder's content.

    Attributes:
        folder: the folder.
        record: of `run.json`; None where there is no sound one.
        rows, skipped, lens, cards: of all sound parts, in the columns of `SCHEMAS`.
        damage: what is missing or damaged, a sentence without full stop each.
    """

    folder: Path
    record: Mapping[str, Any] | None
    rows: pd.DataFrame
    skipped: pd.DataFrame
    lens: pd.DataFrame
    cards: pd.DataFrame
    damage: tuple[str, ...]

    @property
    def seed(self) -> int:
        """Of the run; 0 where it is not known."""
        return int(self._configuration.get("seed") or 0)

    @property
    def shape(self) -> ModelShape | None:
        """The model's shape, as the last session that knew it recorded it."""
        return None if self.record is None else stored_shape(self.record)

    @property
    def planned(self) -> Mapping[str, int] | None:
        """Questions of each task that the run is to answer; None where its record does not tell."""
        sessions = [] if self.record is None else self.record["sessions"]
        return next((dict(one[PLANNED_KEY]) for one in reversed(sessions) if one.get(PLANNED_KEY)), None)

    @property
    def finished(self) -> int:
        """Questions that need no more work: with rows, set aside or not selected."""
        return sum(len(table[["task", "question_id"]].drop_duplicates()) for table in (self.rows, self.skipped))

    @property
    def _configuration(self) -> Mapping[str, Any]:
        return {} if self.record is None else self.record["configuration"]


def read_content(folder: Path) -> RunContent:
    """Everything that can be read.

    Raises:
        RunFolderError: there is neither a `run.json` nor a sound result part, `run.json` is another program's, or the
            folder is an evaluation's.
    """
    damage: list[str] = []
    tables = {}
    for kind in SCHEMAS:
        tables[kind], harm = _sound_parts(folder, kind)
        damage += harm
    if len(tables["answers"]) and not len(tables["part"]):
        raise RunFolderError(
            f"{folder} holds an evaluation, which has no knockouts to report; its accuracies are in accuracy.csv"
        )
    record, harm = _record(folder, bool(len(tables["part"])))
    return RunContent(
        folder, record, tables["part"], tables["skipped"], tables["lens"], tables["cards"], (*harm, *damage)
    )


def stored_shape(record: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a run's last session recorded, if any did."""
    for session in reversed(record["sessions"]):
        fields = session.get(SHAPE_KEY)
        if fields is not None:
            layers = tuple(fields["cross_attention_layers"])
            return ModelShape(**{**fields, "cross_attention_layers": layers})
    return None


def _record(folder: Path, has_rows: bool) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        record = read_record(folder)
    except RunFolderError as error:
        if not has_rows:
            raise
        return None, [f"{error}: model, data and prompt are not known"]
    if record is None and not has_rows:
        raise RunFolderError(f"{folder} holds no run.json; expected a folder that a sweep wrote")
    if record is None:
        return None, [f"{folder} holds no run.json: model, data and prompt are not known"]
    sessions = [session for session in record["sessions"] if _is_sound(session)]
    strange = len(record["sessions"]) - len(sessions)
    harm = [f"{folder / 'run.json'}: {strange} of its sessions cannot be understood"] if strange else []
    return {**record, "sessions": sessions}, harm


def _is_sound(session: Any) -> bool:
    """Whether a session tells what is asked of it: unlike the configuration, sessions have no digest."""
    try:
        stored_shape({"sessions": [session]})
        sum((session.get(PLANNED_KEY) or {}).values())
        return True
    except (AttributeError, KeyError, TypeError):
        return False


def _sound_parts(folder: Path, kind: str) -> tuple[pd.DataFrame, list[str]]:
    """All rows of a kind's sound parts, sorted by their key, and a sentence about each other part."""
    tables, harm = [SCHEMAS[kind].empty_table()], []
    for path in part_paths(folder, kind):
        try:
            table = read_part(path, kind)
        except RunFolderError as error:
            harm.append(str(error))
            continue
        if table is None:
            harm.append(f"{path} is truncated or damaged; resume the run to have its questions run again")
        else:
            tables.append(table)
    if len(harm) > TOLD_PARTS + 1:
        harm[TOLD_PARTS:] = [f"{len(harm) - TOLD_PARTS} more {kind}-*.parquet in {folder} cannot be used either"]
    key = KEYS[kind]
    rows = pa.concat_tables(tables).to_pandas().sort_values(key, kind="stable", ignore_index=True)
    repeated = rows.duplicated(key)
    if repeated.any():
        harm.append(f"{folder} holds {int(repeated.sum())} rows twice; the first of each counts")
    return rows[~repeated].reset_index(drop=True), harm
