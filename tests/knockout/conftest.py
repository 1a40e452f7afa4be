"""Compiles the engines' tests with fewer optimisations: they compile hundreds of tiny programs and run each once."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly(quickly_compiled: None) -> None:
    """Every module here."""
