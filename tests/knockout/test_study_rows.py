"""Rows of every kind, and what each says of its configuration."""

import pytest

from tests.knockout.anatomies import prompt_anatomy
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import keep_only, zero_output
from xmflow_jax.knockout.modes import MODES
from xmflow_jax.knockout.output_places import SUBLAYERS, OutputPlace, parse_output_place
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study_rows import keep_only_study, output_study, pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END
from xmflow_jax.run.row_words import EDGES, KEEP_ONLY, OUTPUT, USUAL_MODES, USUAL_STYLE

LAYERS = 4
ANATOMY = prompt_anatomy(LAYERS)
PATHWAY = Pathway("Image", "Question")
PLACE = OutputPlace("self", "Image")


def test_a_pathways_rows_say_in_which_mode() -> None:
    for mode in MODES:
        rows = pathway_study([(PATHWAY, CENTRED)], ANATOMY, 3, mode, controls=1, single_heads=(1,))
        assert {(row.kind, row.mode) for row in rows} == {(EDGES, mode)}


def test_a_kept_pathway_has_a_row_in_every_layer() -> None:
    rows = keep_only_study([(PATHWAY, CENTRED), (PATHWAY, TO_END)], ANATOMY, 3)
    assert [(row.style, row.layer, row.window) for row in rows] == [
        *((CENTRED, layer, 3) for layer in range(LAYERS)),
        *((TO_END, layer, LAYERS - layer) for layer in range(LAYERS)),
    ]
    assert {(row.kind, row.mode, str(row.pathway)) for row in rows} == {(KEEP_ONLY, "mask", "Image->Question")}
    assert rows[2].knockout == keep_only(PATHWAY, (1, 2, 3), ANATOMY)
    assert rows[LAYERS + 2].knockout == keep_only(PATHWAY, (2, 3), ANATOMY)


def test_an_output_has_a_row_in_every_layer() -> None:
    rows = output_study([(PLACE, TO_END)], LAYERS, 3)
    assert [(row.kind, row.mode, str(row.pathway), row.layer, row.window) for row in rows] == [
        (OUTPUT, "zero", "self:Image", layer, LAYERS - layer) for layer in range(LAYERS)
    ]
    assert rows[1].knockout == zero_output(SUBLAYERS["self"], "Image", (1, 2, 3))


def test_rows_of_all_kinds_are_told_apart() -> None:
    rows = (
        *pathway_study([(PATHWAY, CENTRED)], ANATOMY, 3),
        *keep_only_study([(PATHWAY, CENTRED)], ANATOMY, 3),
        *output_study([(PLACE, CENTRED), (OutputPlace("mlp", "Image"), CENTRED)], LAYERS, 3),
    )
    keys = {(row.kind, row.mode, str(row.pathway), row.style, row.layer, row.control, row.head) for row in rows}
    assert len(keys) == len(rows) == 4 * LAYERS


def test_usual_modes_and_style_are_those_of_the_options() -> None:
    assert set(USUAL_MODES.values()) <= set(MODES)
    assert USUAL_STYLE == CENTRED


def test_output_places_are_read_as_they_are_written() -> None:
    assert parse_output_place(" SELF: image ") == PLACE
    assert {str(parse_output_place(f"{name}:central object")) for name in SUBLAYERS} == {
        f"{name}:Central Object" for name in SUBLAYERS
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image", "output 'Image' is not of the form 'sublayer:role', such as 'self:Image'"),
        ("head:Image", "unknown sublayer 'head'; the sublayers are: self, cross, mlp"),
        ("self:Picture", "Picture"),
    ],
)
def test_what_is_no_output_is_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_output_place(text)
