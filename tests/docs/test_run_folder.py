"""The columns that `docs/run-folder.md` explains against the schemas of a run folder's tables."""

import pytest

from tests.docs.pages import DOCS, names_in, sections
from xmflow_jax.run.schemas import KEYS, SCHEMAS

PAGE = "run-folder.md"
SECTIONS = {
    "part": "Rows",
    "skipped": "Questions without rows",
    "lens": "Answer tracking",
    "cards": "Single questions",
    "answers": "An evaluation's folder",
}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_column_is_explained_once(kind: str) -> None:
    told, real = names_in(PAGE, SECTIONS[kind], "column"), SCHEMAS[kind].names
    where = f"docs/{PAGE}, {SECTIONS[kind]}"
    assert len(told) == len(set(told)), f"{where}: a column is there twice"
    assert set(told) == set(real), (
        f"{where}: lacks {sorted(set(real) - set(told))}, has beyond {sorted(set(told) - set(real))}"
    )


def test_what_names_a_row_is_told() -> None:
    rows = sections((DOCS / PAGE).read_text(encoding="utf-8"))["Rows"]
    sentence = next(line for line in rows.splitlines() if "A row's own name is" in line)
    assert [word for word in KEYS["part"] if word.removesuffix("_id") not in sentence] == []
