"""The tables of `docs/add-a-kind.md` against the records that they explain."""

from dataclasses import fields
from typing import Any

import pytest

from tests.docs.pages import names_in
from xmflow_jax.knockout.kinds.kind import Kind
from xmflow_jax.nn.attention import Treatment

PAGE = "add-a-kind.md"


@pytest.mark.parametrize(("section", "record"), [("A kind", Kind), ("The smallest example: a mode", Treatment)])
def test_every_field_is_explained(section: str, record: Any) -> None:
    real = {field.name for field in fields(record)}
    assert set(names_in(PAGE, section, "field")) == real, f"docs/{PAGE}, {section}: the fields are {sorted(real)}"
