"""The columns that `docs/run-folder.md` explains against the schemas of a run folder's tables."""

import pytest

from tests.docs.pages import DOCS, quoted, sections, table_rows
from xmflow_jax.run.schemas import KEYS, SCHEMAS

PAGE = sections((DOCS / "run-folder.md").read_text(encoding="utf-8"))
SECTIONS = {
    "part": "Rows",
    "skipped": "Questions without rows",
    "lens": "Answer tracking",
    "cards": "Single questions",
    "answers": "An evaluation's folder",
}


def explained(section: str) -> list[str]:
    return [name for cells in table_rows(PAGE[section], "column") for name in quoted(cells[0])]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_column_is_explained_once(kind: str) -> None:
    told, real = explained(SECTIONS[kind]), SCHEMAS[kind].names
    where = f"docs/run-folder.md, {SECTIONS[kind]}"
    assert len(told) == len(set(told)), f"{where}: a column is there twice"
    assert set(told) == set(real), (
        f"{where}: lacks {sorted(set(real) - set(told))}, has beyond {sorted(set(told) - set(real))}"
    )


def test_what_names_a_row_is_told() -> None:
    sentence = next(line for line in PAGE["Rows"].splitlines() if "A row's own name is" in line)
    assert [word for word in KEYS["part"] if word.removesuffix("_id") not in sentence] == []
