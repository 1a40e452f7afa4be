"""Tiles, kept cells and boxes of LLaVA-NeXT's images against transformers' own processor and model, at full size."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xmflow_jax.data import roles
from xmflow_jax.data.anyres import cut_image, draw_views, read_features, tiled_layout

PATCH, TILE = 14, 336
CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def random_sizes(count: int) -> list[tuple[int, int]]:
    """(width, height): from square to one to nine, from smaller than a tile to larger than every canvas."""
    rng = np.random.default_rng(0)
    area, aspect = np.exp(rng.uniform(np.log(60**2), np.log(3000**2), count)), 3 ** rng.uniform(-2, 2, count)
    return [(max(1, round((a * r) ** 0.5)), max(1, round((a / r) ** 0.5))) for a, r in zip(area, aspect, strict=True)]


def published_reads(size: tuple[int, int]) -> np.ndarray:
    """The order that transformers' model puts an image's features in, told by features that are their own numbers."""
    import torch
    from transformers import LlavaNextModel

    from xmflow_jax.data.anyres import choose_canvas

    height, width = choose_canvas(size, CANVASES)
    tiles = height // TILE * (width // TILE) + 1
    numbers = torch.arange(tiles * 24 * 24).reshape(tiles, 24 * 24, 1).float()
    vision = SimpleNamespace(image_size=TILE, patch_size=PATCH)
    config = SimpleNamespace(vision_config=vision, image_grid_pinpoints=[list(canvas) for canvas in CANVASES])
    model: Any = SimpleNamespace(config=config)
    features, _ = LlavaNextModel.pack_image_features(
        model, [numbers], torch.tensor([[size[1], size[0]]]), "default", torch.tensor([-1.0])
    )
    found: np.ndarray = features[0].numpy()[:, 0].astype(int)
    return found


def test_positions_and_their_features_are_the_published_ones_for_200_sizes() -> None:
    grids, cuts = set(), set()
    for size in random_sizes(200):
        cut = cut_image(size, CANVASES, TILE, PATCH)
        np.testing.assert_array_equal(read_features(cut), published_reads(size), err_msg=str(size))
        layout = tiled_layout(cut, PATCH)
        assert layout.positions == len(layout.tokens) == len(read_features(cut))
        grids.add((cut.rows, cut.columns))
        cuts.add((cut.first_row > 0, cut.first_column > 0))
    assert grids == {(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)}
    assert cuts >= {(True, False), (False, True)}


def test_the_processor_expands_the_image_to_as_many_positions() -> None:
    from transformers import LlavaNextProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    told: Any = SimpleNamespace(
        image_processor=LlavaNextImageProcessorPil(),
        patch_size=PATCH,
        num_additional_image_tokens=0,
        _get_unpadded_features=LlavaNextProcessor._get_unpadded_features.__get__(SimpleNamespace()),
    )
    for size in random_sizes(200):
        expected = LlavaNextProcessor._get_number_of_features(told, size[1], size[0], TILE, TILE)
        assert tiled_layout(cut_image(size, CANVASES, TILE, PATCH), PATCH).positions == expected, size


def processed(image: Image.Image) -> np.ndarray:
    """[tile, height, width, 3] in the image's colours."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor = LlavaNextImageProcessorPil(
        do_rescale=False,
        do_normalize=False,
        size={"shortest_edge": TILE},
        crop_size={"height": TILE, "width": TILE},
        image_grid_pinpoints=[list(canvas) for canvas in CANVASES],
    )
    tiles = processor(image, return_tensors="np")["pixel_values"][0]
    return np.moveaxis(tiles, 1, -1)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (500, 500), (1500, 400), (400, 1500), (90, 200)], ids=str)
def test_every_positions_box_holds_the_pixels_of_the_feature_that_it_reads(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    cut, tiles = cut_image(size, CANVASES, TILE, PATCH), processed(image)
    assert len(tiles) == cut.tiles + 1
    layout, picture = tiled_layout(cut, PATCH), draw_views(tiles, cut)
    assert picture.shape[:2] == (layout.rows * PATCH, layout.columns * PATCH)
    for position, feature in enumerate(read_features(cut)):
        box = layout.box(position)
        if feature < 0:
            assert box is None
            assert layout.views[roles.IMAGE_NEWLINE][position]
            continue
        tile, cell = divmod(int(feature), 24 * 24)
        top, left = (PATCH * one for one in divmod(cell, 24))
        assert box is not None
        np.testing.assert_array_equal(
            picture[box[1] : box[3], box[0] : box[2]], tiles[tile, top : top + PATCH, left : left + PATCH]
        )
        assert layout.views[roles.IMAGE_TILES if tile else roles.IMAGE_BASE][position]


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_a_painted_patch_changes_the_pixels_of_its_own_positions_alone(canvas: tuple[int, int]) -> None:
    """An image of a canvas's own size is not scaled there, so that one patch of it is one cell."""
    height, width = canvas
    size = (width, height)
    cut = cut_image(size, CANVASES, TILE, PATCH)
    layout = tiled_layout(cut, PATCH)
    blank = np.zeros((height, width, 3), np.uint8)
    before = draw_views(processed(Image.fromarray(blank)), cut)
    rng = np.random.default_rng(1)
    for _ in range(4):
        row, column = int(rng.integers(height // PATCH)), int(rng.integers(width // PATCH))
        painted = blank.copy()
        painted[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = 255
        differs = (draw_views(processed(Image.fromarray(painted)), cut) != before).any(-1)
        changed = np.array(
            [
                (box := layout.box(place)) is not None and bool(differs[box[1] : box[3], box[0] : box[2]].any())
                for place in range(layout.positions)
            ]
        )
        own = 24 * 24 + row * (width // PATCH + 1) + column
        assert np.flatnonzero(changed & layout.views[roles.IMAGE_TILES]).tolist() == [own]
        # The squashed whole blends over the patch's edges, into the cells that it touches.
        shrunk = np.flatnonzero(changed & layout.views[roles.IMAGE_BASE])
        middle = (int((row + 0.5) * 24 / (height / PATCH)), int((column + 0.5) * 24 / (width / PATCH)))
        assert middle[0] * 24 + middle[1] in shrunk
        assert len(shrunk) <= 9
