"""The tables of `docs/add-a-family.md` against the record and the protocols that they explain."""

from dataclasses import fields

from tests.docs.pages import names_in
from xmflow_jax.families.family import Family
from xmflow_jax.nn import anatomy, interfaces

PAGE = "add-a-family.md"


def test_every_field_is_explained() -> None:
    real = {field.name for field in fields(Family)}
    assert set(names_in(PAGE, "The record", "field")) == real, f"docs/{PAGE}: the fields of Family are {sorted(real)}"


def test_the_protocols_are_there() -> None:
    known = {*vars(interfaces), *vars(anatomy)}
    assert [name for name in names_in(PAGE, "The module", "protocol") if name not in known] == []
