"""The table of `docs/families.md` against the registry."""

from tests.docs.pages import DOCS, quoted, table_rows
from xmflow_jax.families.registry import all_families
from xmflow_jax.models import family_lines

ROWS = table_rows((DOCS / "families.md").read_text(encoding="utf-8"), "`model_type`")


def test_every_family_has_its_row_in_order() -> None:
    own = [one.model_type for one in all_families() if one.build.__module__.startswith("xmflow_jax.")]
    assert [quoted(cells[0]) for cells in ROWS] == [[name] for name in own]
    assert all(cells[1] and cells[3] for cells in ROWS)


def test_sites_and_roles_are_the_registry_s() -> None:
    told = dict(line.split(": ", 1) for line in family_lines())
    assert {quoted(cells[0])[0]: cells[2] for cells in ROWS}.items() <= told.items()
