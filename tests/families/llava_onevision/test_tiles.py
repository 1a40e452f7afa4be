"""LLaVA-OneVision's positions and what each is made of, against transformers' own processor and model, at full size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.families.llava_next.test_tiles import random_sizes
from tests.families.model_files import write_model
from tests.families.painting import changed_positions, painted_square
from tests.families.variants import ONEVISION
from xmflow_jax.data import roles
from xmflow_jax.data.anyres import blend_features, choose_canvas, cut_image, most_cells, tiled_layout
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import resolve_template
from xmflow_jax.errors import CheckpointError, OptionError
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.llava_onevision.family import FAMILY

PATCH, TILE, SIDE = 14, 384, 27
CANVASES = tuple((TILE * rows, TILE * columns) for rows in range(1, 7) for columns in range(1, 7))


def test_positions_equal_the_processors_for_200_sizes() -> None:
    from transformers import LlavaOnevisionProcessor

    told: Any = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=[list(canvas) for canvas in CANVASES]),
        num_image_tokens=SIDE * SIDE,
        vision_aspect_ratio="anyres_max_9",
    )
    told._get_unpadded_features = LlavaOnevisionProcessor._get_unpadded_features.__get__(told)
    resampled = 0
    for size in random_sizes(200):
        expected = LlavaOnevisionProcessor._get_number_of_features(told, size[1], size[0], TILE, TILE)
        cut = cut_image(size, CANVASES, TILE, PATCH)
        layout = tiled_layout(cut, PATCH, most_cells(cut, 9))
        assert layout.positions == expected, size
        assert len(blend_features(cut, most_cells(cut, 9))[0]) == expected
        resampled += most_cells(cut, 9) != (cut.last_row - cut.first_row, cut.last_column - cut.first_column)
    assert 20 < resampled < 180


@pytest.mark.parametrize("size", [(640, 480), (1500, 1100), (2600, 300), (3000, 2900), (100, 90)], ids=str)
def test_what_each_position_is_made_of_is_what_transformers_makes(size: tuple[int, int]) -> None:
    """In float64: PyTorch tells the neighbours' shares in the type of the features."""
    import torch
    from transformers import LlavaOnevisionModel

    height, width = choose_canvas(size, CANVASES)
    tiles = height // TILE * (width // TILE) + 1
    rng = np.random.default_rng(0)
    features = rng.normal(size=(tiles, SIDE * SIDE, 2))
    vision = SimpleNamespace(image_size=TILE, patch_size=PATCH)
    config = SimpleNamespace(vision_config=vision, image_grid_pinpoints=[list(canvas) for canvas in CANVASES])
    model: Any = SimpleNamespace(config=config)
    (published,), _ = LlavaOnevisionModel.pack_image_features(
        model,
        [torch.tensor(features)],
        torch.tensor([[size[1], size[0]]]),
        torch.tensor([7.0, -7.0], dtype=torch.float64),
    )
    cut = cut_image(size, CANVASES, TILE, PATCH)
    reads, shares = blend_features(cut, most_cells(cut, 9))
    read = np.where((reads < 0)[..., None], [7.0, -7.0], features.reshape(-1, 2)[np.maximum(reads, 0)])
    np.testing.assert_allclose((read * shares[..., None]).sum(1), published.numpy(), rtol=0, atol=1e-6)


def test_boxes_of_a_resampled_grid_cover_the_kept_cells_once() -> None:
    cut = cut_image((3000, 2900), CANVASES, TILE, PATCH)
    grid = most_cells(cut, 9)
    assert grid != (cut.last_row - cut.first_row, cut.last_column - cut.first_column)
    layout = tiled_layout(cut, PATCH, grid)
    covered = np.zeros((layout.rows * PATCH, layout.columns * PATCH), int)
    for left, top, right, bottom in layout.boxes[layout.views[roles.IMAGE_TILES]]:
        covered[top:bottom, left:right] += 1
    top, left = (SIDE + cut.first_row) * PATCH, cut.first_column * PATCH
    assert (covered[top : (SIDE + cut.last_row) * PATCH, left : cut.last_column * PATCH] == 1).all()
    assert covered.sum() == (cut.last_row - cut.first_row) * (cut.last_column - cut.first_column) * PATCH**2


@pytest.mark.parametrize("size", [(28, 28), (56, 28), (28, 56)], ids=str)
def test_a_painted_patch_changes_its_own_position_among_the_tiles_alone(size: tuple[int, int], tmp_path: Path) -> None:
    """An image of a canvas's own size is not scaled there, and so few patches are not resampled."""
    processing = read_checkpoint(write_model(tmp_path / "model", FAMILY)).processing()
    layout = processing.image_layout(size)
    across, down = size[0] // PATCH, size[1] // PATCH
    for row, column in np.ndindex(down, across):
        changed = changed_positions(processing, *painted_square(size, PATCH, row, column))
        # Behind the whole's four patches, each row of the tiles' has a newline at its end.
        own = 4 + row * (across + 1) + column
        assert np.flatnonzero(changed & layout.views[roles.IMAGE_TILES]).tolist() == [own]
        middle = int((row + 0.5) * 2 / down) * 2 + int((column + 0.5) * 2 / across)
        assert middle in np.flatnonzero(changed & layout.views[roles.IMAGE_BASE])


NOT_A_NUMBER = ("", "0", "-1", "9x", "0009999", "09", "1000")


@pytest.mark.parametrize("told", ["pad", "anyres", "", *(f"anyres_max_{number}" for number in NOT_A_NUMBER)])
def test_another_way_with_many_patches_is_refused(told: str) -> None:
    content = FAMILY.write_config(ONEVISION, "float32") | {"vision_aspect_ratio": told}
    with pytest.raises(CheckpointError, match="vision_aspect_ratio is"):
        FAMILY.read_config(Path("config.json"), content)


def test_several_images_in_a_prompt_are_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", FAMILY)
    image = tmp_path / "image.png"
    Image.new("RGB", (40, 30)).save(image)
    question = Question("1", "1", image, "Is it red?", "yes", "task")
    processing = read_checkpoint(model).processing()
    with pytest.raises(OptionError, match="shows the image 2 times; LLaVA-OneVision reads several images without"):
        prepare_question(question, processing, resolve_template("<image><image>{question}"))
    assert prepare_question(question, processing, resolve_template("<image>{question}")).roles["Image Base"].sum() == 4
