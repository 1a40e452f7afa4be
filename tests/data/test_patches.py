"""Images whose patches are known by construction: resizing by whole factors, boxes on patch borders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.tiny_processing import CENTRE_CROP, PAD_TO_SQUARE, PLAIN_RESIZE, load_processing, write_tiny_processing
from xmflow_jax.data.patches import object_positions, padding_positions
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.question import Box
from xmflow_jax.errors import QuestionSetAside

SIDE, PATCH = 56, 14  # 4 x 4 patches


@pytest.fixture(name="processing", scope="module")
def fixture_processing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Processing]:
    loaded = {}
    for geometry in (CENTRE_CROP, PAD_TO_SQUARE, PLAIN_RESIZE):
        folder = tmp_path_factory.mktemp("processing")
        write_tiny_processing(folder, SIDE, PATCH, geometry)
        loaded[geometry] = load_processing(folder)
    return loaded


def grid(processing: Processing, size: tuple[int, int], *boxes: Box) -> list[str]:
    """The object's patches as four lines of text, `#` for object."""
    return drawn(object_positions(processing, size, boxes))


def drawn(patches: np.ndarray) -> list[str]:
    assert patches.shape == (16,)
    assert patches.dtype == bool
    return ["".join("#" if patch else "." for patch in row) for row in patches.reshape(4, 4)]


def test_unresized_box_marks_the_patches_it_lies_in(processing: dict[str, Processing]) -> None:
    inside = Box(x=15, y=29, width=10, height=10)
    assert grid(processing[PLAIN_RESIZE], (56, 56), inside) == ["....", "....", ".#..", "...."]


def test_one_pixel_of_a_patch_is_enough(processing: dict[str, Processing]) -> None:
    # Painting includes the right and lower edge, so a box of 14 pixels from 0 reaches pixel 14, the next patch's first.
    reaching, not_reaching = Box(0, 0, 14, 14), Box(0, 0, 13, 13)
    assert grid(processing[PLAIN_RESIZE], (56, 56), reaching) == ["##..", "##..", "....", "...."]
    assert grid(processing[PLAIN_RESIZE], (56, 56), not_reaching) == ["#...", "....", "....", "...."]


def test_rows_come_before_columns(processing: dict[str, Processing]) -> None:
    assert np.flatnonzero(object_positions(processing[PLAIN_RESIZE], (56, 56), [Box(44, 2, 5, 5)])).tolist() == [3]


def test_several_boxes_are_joined(processing: dict[str, Processing]) -> None:
    boxes = Box(2, 2, 5, 5), Box(44, 44, 5, 5)
    assert grid(processing[PLAIN_RESIZE], (56, 56), *boxes) == ["#...", "....", "....", "...#"]


def test_plain_resize_stretches_each_side_by_itself(processing: dict[str, Processing]) -> None:
    # 112 x 28: one patch of the model is 28 x 7 pixels of the image.
    assert grid(processing[PLAIN_RESIZE], (112, 28), Box(58, 1, 20, 3)) == ["..#.", "....", "....", "...."]


def test_centre_crop_cuts_the_sides_away(processing: dict[str, Processing]) -> None:
    # 112 x 56 keeps columns 28 to 83: the patch columns begin at 28, 42, 56 and 70.
    middle, cut_away, half = Box(58, 2, 10, 10), Box(2, 2, 20, 20), Box(20, 44, 20, 10)
    assert grid(processing[CENTRE_CROP], (112, 56), middle) == ["..#.", "....", "....", "...."]
    assert grid(processing[CENTRE_CROP], (112, 56), cut_away) == ["...."] * 4
    assert grid(processing[CENTRE_CROP], (112, 56), half) == ["....", "....", "....", "#..."]
    assert drawn(padding_positions(processing[CENTRE_CROP], (112, 56))) == ["...."] * 4


def test_pad_to_square_shifts_the_object_and_leaves_bars(processing: dict[str, Processing]) -> None:
    # 112 x 40 becomes 112 x 112 with 36 empty lines above and below, then half the size: bars of 18 lines each.
    padded = processing[PAD_TO_SQUARE]
    assert grid(padded, (112, 40), Box(2, 2, 8, 12)) == ["....", "#...", "....", "...."]
    assert grid(padded, (40, 112), Box(2, 2, 8, 12)) == [".#..", "....", "....", "...."]
    assert drawn(padding_positions(padded, (112, 40))) == ["####", "....", "....", "####"]
    assert drawn(padding_positions(padded, (40, 112))) == ["#..#"] * 4
    assert drawn(padding_positions(padded, (80, 80))) == ["...."] * 4


def test_bar_that_ends_with_a_patch_counts_only_where_resizing_does_not_blur_it(
    processing: dict[str, Processing],
) -> None:
    padded = processing[PAD_TO_SQUARE]
    assert drawn(padding_positions(padded, (56, 28))) == ["####", "....", "....", "####"]  # not resized
    assert drawn(padding_positions(padded, (112, 56))) == ["...."] * 4  # halved: its last line holds some of the image


def test_patch_that_is_partly_padding_is_none(processing: dict[str, Processing]) -> None:
    # 56 x 40: 8 lines of padding above and below, less than one patch.
    assert drawn(padding_positions(processing[PAD_TO_SQUARE], (56, 40))) == ["...."] * 4


def test_box_reaching_over_the_border_is_clipped(processing: dict[str, Processing]) -> None:
    plain = processing[PLAIN_RESIZE]
    assert grid(plain, (56, 56), Box(-30, 45, 40, 400)) == ["....", "....", "....", "#..."]
    assert grid(plain, (56, 56), Box(43, 0, 13, 5)) == ["...#", "....", "....", "...."]


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        (Box(56, 0, 5, 5), r"\(x 56, y 0, width 5, height 5\) lies outside the image of 56x40"),
        (Box(0, 40, 5, 5), "lies outside"),
        (Box(-5, 0, 5, 5), "lies outside"),
        (Box(0, -9, 5, 5), "lies outside"),
        (Box(3, 3, 0, 5), "has no area"),
        (Box(3, 3, 5, -1), "has no area"),
    ],
)
def test_useless_box_sets_the_question_aside(processing: dict[str, Processing], box: Box, complaint: str) -> None:
    with pytest.raises(QuestionSetAside, match=complaint):
        object_positions(processing[PLAIN_RESIZE], (56, 40), [Box(1, 1, 9, 9), box])


@settings(max_examples=30, deadline=None)
@given(column=st.integers(0, 3), row=st.integers(0, 3), factor=st.integers(1, 4), geometry=st.sampled_from([0, 1, 2]))
def test_whole_patch_of_an_enlarged_square_is_found(
    processing: dict[str, Processing], column: int, row: int, factor: int, geometry: int
) -> None:
    """Square images look the same in every geometry; the box fills all but the rim of one patch."""
    side, cell = SIDE * factor, PATCH * factor
    box = Box(column * cell + factor, row * cell + factor, cell - 3 * factor, cell - 3 * factor)
    expected = np.zeros((4, 4), bool)
    expected[row, column] = True
    chosen = processing[(CENTRE_CROP, PAD_TO_SQUARE, PLAIN_RESIZE)[geometry]]
    np.testing.assert_array_equal(object_positions(chosen, (side, side), [box]).reshape(4, 4), expected)
    assert not padding_positions(chosen, (side, side)).any()
