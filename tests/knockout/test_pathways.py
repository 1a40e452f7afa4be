"""Parsing pathways."""

import pytest

from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.pathways import Pathway, parse_pathway, parse_pathways


def test_case_and_space_do_not_matter() -> None:
    parsed = parse_pathway("  image central   OBJECT ->question ")
    assert parsed == Pathway("Image Central Object", "Question")
    assert str(parsed) == "Image Central Object->Question"


@pytest.mark.parametrize("text", ["Image", "Image->", "->Last", "Image->Last->Question", "Image-Last", "Picture->Last"])
def test_what_is_no_pathway_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_pathway(text)


def test_a_list_with_styles() -> None:
    assert parse_pathways("Image->Last, Image->All@to-end", "centred") == (
        (Pathway("Image", "Last"), "centred"),
        (Pathway("Image", "All"), "to-end"),
    )


@pytest.mark.parametrize("text", ["", "Image->Last,", "Image->Last, image->last", "Image->Last@", "Image->Last@round"])
def test_faulty_lists_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_pathways(text, "centred")
