"""The table of `docs/add-a-family.md` against the record that it explains."""

from dataclasses import fields

from tests.docs.pages import names_in
from xmflow_jax.families.family import Family

PAGE = "add-a-family.md"


def test_every_field_is_explained() -> None:
    real = {field.name for field in fields(Family)}
    assert set(names_in(PAGE, "The record", "field")) == real, f"docs/{PAGE}: the fields of Family are {sorted(real)}"
