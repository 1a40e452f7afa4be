"""Grids and numbers of positions against transformers' own image processors, for 200 sizes at full size."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.families.llava_next.test_tiles import random_sizes
from xmflow_jax.data.images import FEATURE
from xmflow_jax.data.split_images import WHOLE, closest_grid, covering_grid, split_layout
from xmflow_jax.families.registry import INTERNVL


@pytest.mark.parametrize(("least", "most"), [(1, 12), (1, 6), (2, 5), (1, 1)])
def test_internvls_grids_are_the_published_ones(least: int, most: int) -> None:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
        GotOcr2ImageProcessorPil,
        get_optimal_tiled_canvas,
    )

    processor = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True)
    processor.min_patches, processor.max_patches = least, most
    grids = set()
    # Whole multiples of a tile tie between grids of one shape.
    for size in [*random_sizes(200), *((448 * across, 448 * down) for across in range(1, 5) for down in range(1, 5))]:
        rows, columns = grid = closest_grid(size, 448, least, most)
        across, down = get_optimal_tiled_canvas((size[1], size[0]), (448, 448), least, most)
        assert grid == (WHOLE if (across, down) == (1, 1) else (down, across)), size
        count = processor.get_number_of_image_patches(size[1], size[0])
        assert rows * columns + 1 == count, size
        layout = split_layout(grid, 16, 28, [[7], *[[]] * (rows * columns), [8]])
        assert layout.positions == 256 * count
        assert len(layout.tokens) == 256 * count + 2
        grids.add(grid)
    assert len(grids) > most or most == 1


@pytest.mark.parametrize(
    ("tile", "longest"),
    [(364, 4 * 364), (512, 2048), (384, 4 * 384), (364, 5 * 364), (512, 512), (512, 700), (364, 5000)],
)
def test_idefics3s_grids_are_what_its_processor_cuts(tile: int, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.image_processing_backends import PilBackend
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    def nothing_but_its_size(self: Any, image: np.ndarray, size: Any, **options: Any) -> np.ndarray:
        return np.broadcast_to(np.uint8(0), (3, size.height, size.width))

    monkeypatch.setattr(PilBackend, "resize", nothing_but_its_size)
    processor = Idefics3ImageProcessorPil(size={"longest_edge": longest}, max_image_size={"longest_edge": tile})
    grids = set()
    for width, height in random_sizes(200):
        image = np.broadcast_to(np.uint8(0), (3, height, width))
        resized = processor.resize(image, processor.size, resample=1)
        stretched = processor.resize_for_vision_encoder(resized, tile, resample=1)
        frames, rows, columns = processor.split_images(stretched, {"longest_edge": tile}, resample=1)
        assert covering_grid((width, height), tile, longest) == (rows, columns), (width, height)
        assert len(frames) == rows * columns + 1
        grids.add((rows, columns))
    assert (WHOLE in grids) == (longest <= tile)
    assert len(grids) > 2 or longest <= tile


def test_internvls_processor_expands_the_image_to_the_same_tokens() -> None:
    from transformers import InternVLProcessor

    told: Any = SimpleNamespace(
        start_image_token="(", end_image_token=")", image_token=".", image_seq_length=INTERNVL.tiny.side**2
    )
    for size in ((28, 28), (100, 20), (60, 90), (200, 190)):
        layout = INTERNVL.image_layout(INTERNVL.tiny, size)
        count = layout.positions // INTERNVL.tiny.side**2
        text = InternVLProcessor.replace_image_token(told, {"num_patches": [count]}, 0)
        assert [one == "." for one in text] == (layout.tokens == FEATURE).tolist()
