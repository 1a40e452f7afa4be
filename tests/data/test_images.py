"""An image's positions: which pixels each shows, what stands around them in a prompt, and a prompt's position ids."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import PLAIN_RESIZE, load_processing, write_tiny_processing
from xmflow_jax.data import roles
from xmflow_jax.data.images import FEATURE, ImageLayout, patch_layout
from xmflow_jax.data.place import Place, plain_place, stack_places
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import bucket_without_image, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import resolve_template

START, NEWLINE, END = 7, 8, 9
TEMPLATE = resolve_template("See: <image>\n{question} Answer:")


def test_patches_stand_row_by_row_behind_the_class_token() -> None:
    layout = patch_layout(2, 3, 14, class_positions=1, in_prompt=True)
    assert [layout.box(position) for position in range(layout.positions)] == [
        None,
        *[(left, top, left + 14, top + 14) for top in (0, 14) for left in (0, 14, 28)],
    ]
    assert layout.tokens.tolist() == [FEATURE] * 7
    assert patch_layout(2, 3, 14, in_prompt=False).tokens.tolist() == []


def tiled(size: tuple[int, int]) -> ImageLayout:
    """Four patches with a newline that has a feature behind each row, then one position that shows the whole picture;
    marks around all of it. A wide image has one row only."""
    rows = 1 if size[0] > 2 * size[1] else 2
    none, tokens, boxes = (0, 0, 0, 0), [START], []
    for row in range(rows):
        boxes += [(14 * column, 14 * row, 14 * column + 14, 14 * row + 14) for column in (0, 1)] + [none]
        tokens += [FEATURE] * 3
    boxes.append((0, 0, 28, 14 * rows))
    tokens += [NEWLINE, FEATURE, END]
    return ImageLayout(rows, 2, 14, np.array(boxes, np.int32), np.array(tokens, np.int32))


def in_time(tokens: np.ndarray, images: Sequence[ImageLayout]) -> Place:
    """An image's features share one id and see each other; the words behind go on from there."""
    feature = tokens == 5
    ids = np.cumsum(~feature | (np.diff(feature, prepend=False) & feature)).astype(np.int32) - 1
    blocks = np.where(feature, 1, 0).astype(np.int32)
    return Place(np.stack([ids] * 3), int(ids[-1]) + 1 - len(ids), blocks)


@pytest.fixture(name="processing", scope="module")
def fixture_processing(tmp_path_factory: pytest.TempPathFactory) -> Processing:
    folder = tmp_path_factory.mktemp("processing")
    write_tiny_processing(folder, geometry=PLAIN_RESIZE)
    plain = load_processing(folder)
    return replace(plain, image_token_id=5, image_layout=tiled, place=in_time, one_layout=False)


def ask(folder: Path, size: tuple[int, int], *boxes: Box) -> Question:
    Image.new("RGB", size, (90, 90, 90)).save(folder / "1.png")
    return Question("1", "1", folder / "1.png", "Is it red?", "red", "One", boxes=boxes, image_size=size)


def test_marks_features_and_roles_in_a_prompt(processing: Processing, tmp_path: Path) -> None:
    prompt = prepare_question(ask(tmp_path, (28, 28), Box(15, 15, 10, 10)), processing, TEMPLATE)
    (begin,) = np.flatnonzero(prompt.token_ids == START)
    assert prompt.token_ids[begin : begin + 10].tolist() == [START, *[5] * 6, NEWLINE, 5, END]
    image = np.flatnonzero(prompt.roles[roles.IMAGE])
    assert (image - begin).tolist() == [1, 2, 3, 4, 5, 6, 8]
    # The lower right patch, and the position that shows the whole picture; a newline shows nothing of its own.
    central = prompt.roles[roles.IMAGE_CENTRAL_OBJECT][image]
    assert central.tolist() == [False, False, False, False, True, False, True]
    assert not prompt.roles[roles.IMAGE_PAD].any()
    # What the processor puts around the image is no part of the system prompt.
    assert np.flatnonzero(prompt.roles[roles.SYSTEM]).tolist() == list(range(begin))
    assert prompt.images[0].on_grid(central).tolist() == [[False, False], [False, True]]


def test_each_image_has_a_grid_of_its_own(processing: Processing, tmp_path: Path) -> None:
    square = prepare_question(ask(tmp_path, (28, 28)), processing, TEMPLATE)
    wide = prepare_question(ask(tmp_path, (90, 28)), processing, TEMPLATE)
    assert (square.images[0].grid, wide.images[0].grid) == ((2, 2), (1, 2))
    assert len(square.token_ids) == len(wide.token_ids) + 3
    # Prompts of one padded length share a batch, whatever the grids of their images.
    assert square.bucket == wide.bucket
    assert bucket_without_image(wide.question, processing, TEMPLATE) is None
    plain = replace(processing, image_layout=lambda size: tiled((28, 28)), one_layout=True)
    assert bucket_without_image(square.question, plain, TEMPLATE) == square.bucket


def test_an_image_shown_twice_lies_there_twice(processing: Processing, tmp_path: Path) -> None:
    twice = resolve_template("<image> and <image> {question}")
    prompt = prepare_question(ask(tmp_path, (28, 28), Box(15, 15, 10, 10)), processing, twice)
    assert len(prompt.images) == len(prompt.pixels) == 2
    assert prompt.roles[roles.IMAGE_CENTRAL_OBJECT].sum() == 4
    assert prompt.bucket[1] == ((2,),)


def test_a_prompts_place_is_its_processings(processing: Processing, tmp_path: Path) -> None:
    prompt = prepare_question(ask(tmp_path, (28, 28)), processing, TEMPLATE)
    length = len(prompt.token_ids)
    assert prompt.place.axes.shape == (3, length)
    assert prompt.place.blocks is not None
    np.testing.assert_array_equal(prompt.place.blocks > 0, prompt.roles[roles.IMAGE])
    # Seven features take two ids, for the newline's token stands between them.
    assert prompt.place.axes.max() == length - 1 - 5
    assert prompt.place.delta == -5


def test_places_of_a_batch_go_on_as_their_prompts_would() -> None:
    image = Place(np.array([[0, 1, 1, 2], [0, 1, 2, 2]], np.int32), -1, np.array([0, 1, 1, 0], np.int32))
    other = Place(np.array([[0, 1, 2], [0, 1, 2]], np.int32))
    both = stack_places([image, other], 6)
    assert both.axes.tolist() == [[[0, 1, 1, 2, 3, 4], [0, 1, 2, 2, 3, 4]], [[0, 1, 2, 3, 4, 5]] * 2]
    assert both.delta.tolist() == [-1, 0]
    assert both.blocks is not None
    assert both.blocks.tolist() == [[0, 1, 1, 0, 0, 0], [0] * 6]
    plain = stack_places([plain_place(2), plain_place(4)], 5)
    assert plain.axes.tolist() == [[[0, 1, 2, 3, 4]]] * 2
    assert plain.blocks is None
