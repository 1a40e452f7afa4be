"""Compiles with fewer optimisations: these tests run each program a few times only."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly(quickly_compiled: None) -> None:
    """Every module here."""
