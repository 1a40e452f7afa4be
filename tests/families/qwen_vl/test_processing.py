"""The Qwen-VL models' images against transformers' own processor, positions on three axes, configurations, prompts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import write_tiny_processing
from tests.families.llava_next.test_tiles import random_sizes
from tests.families.painting import changed_positions, painted_square
from xmflow_jax.data.images import COLOURS
from xmflow_jax.data.merged_patches import PixelLimits, number_patches, resized
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import NAMED_TEMPLATES
from xmflow_jax.errors import CheckpointError, QuestionSetAside
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.family import Family
from xmflow_jax.families.qwen2_vl.modeling import QwenVLConfig
from xmflow_jax.families.registry import QWEN2_5_VL, QWEN2_VL, QWEN3_VL
from xmflow_jax.study.preview import draw_image

each_family = pytest.mark.parametrize("family", [QWEN2_VL, QWEN2_5_VL, QWEN3_VL], ids=lambda family: family.model_type)
LIMITS = PixelLimits(56 * 56, 200 * 200)


def write_files(folder: Path, family: Family, **preprocessor: Any) -> QwenVLConfig:
    """The files of a checkpoint but its weights."""
    words = write_tiny_processing(folder, with_config=False)
    tiny: Any = family.tiny
    text = replace(tiny.text, vocabulary=words)
    config = replace(tiny, text=text, image_token=words - 1, start_token=words - 2, end_token=words - 3)
    (folder / "config.json").write_text(json.dumps(family.write_config(config, "float32")))
    settings = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2}
    settings |= {"min_pixels": LIMITS.least, "max_pixels": LIMITS.most}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | preprocessor))
    assert isinstance(config, QwenVLConfig)
    return config


def prepare(folder: Path, size: tuple[int, int], *boxes: Box) -> PreparedQuestion:
    path = folder / "image.png"
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)
    question = Question("1", "1", path, "Is the ball red?", "yes", "task", boxes=boxes)
    return prepare_question(question, read_checkpoint(folder).processing(), NAMED_TEMPLATES["qwen_vl"])


def test_images_are_resized_as_transformers_does_for_200_sizes() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    for limits in (PixelLimits(3136, 12_845_056), PixelLimits(256 * 28 * 28, 1280 * 28 * 28)):
        processor = Qwen2VLImageProcessorPil(min_pixels=limits.least, max_pixels=limits.most)
        for size in random_sizes(200):
            height, width = resized(size, 28, limits)
            assert height * width // 14**2 == processor.get_number_of_image_patches(size[1], size[0]), size


@pytest.mark.parametrize("grids", [[(8, 12)], [(4, 4), (10, 6)], [(2, 2), (2, 2), (18, 10)]], ids=str)
def test_patches_are_numbered_as_transformers_orders_them(grids: list[tuple[int, int]]) -> None:
    import torch
    from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

    told = torch.tensor([[1, *grid] for grid in grids])
    found = number_patches(grids, merge=2, window=4)
    places = get_vision_position_ids(told, 2).numpy()
    np.testing.assert_array_equal(np.stack([found["rows"], found["columns"]], axis=-1), places)
    np.testing.assert_array_equal(found["images"], np.repeat(np.arange(len(grids)) + 1, [r * c for r, c in grids]))
    order, ends = get_vision_window_index(told, spatial_merge_size=2, window_size=112, patch_size=14)
    blocks = found["windows"].reshape(-1, 4)
    assert (blocks == blocks[:, :1]).all()
    in_their_order = blocks[order.numpy(), 0].repeat(4)
    for first, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        assert len(set(in_their_order[first:end])) == 1
    assert len(set(in_their_order)) == len(ends) - 1


@each_family
@pytest.mark.parametrize("size", [(140, 84), (84, 140), (30, 30), (250, 90)], ids=str)
def test_every_position_holds_the_pixels_of_its_four_patches(
    family: Family, size: tuple[int, int], tmp_path: Path
) -> None:
    config = write_files(tmp_path, family)
    processing = read_checkpoint(tmp_path).processing()
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    layout, picture = processing.image_layout(size), processing.plain_pixels(image)
    assert picture.shape == (layout.rows * 28, layout.columns * 28, 3)
    made = processing.image_processor(image, return_tensors="np", do_rescale=False, do_normalize=False)
    # [position, patch in it, colour, moment, row, column]
    patches = made["pixel_values"].reshape(layout.positions, 4, 3, 2, 14, 14)
    np.testing.assert_array_equal(patches[:, :, :, 0], patches[:, :, :, 1])
    for position in range(layout.positions):
        box = layout.box(position)
        assert box is not None
        own = picture[box[1] : box[3], box[0] : box[2]].reshape(2, 14, 2, 14, 3).transpose(0, 2, 4, 1, 3)
        np.testing.assert_array_equal(own.reshape(4, 3, 14, 14), patches[position, :, :, 0])
    assert processing.pixels([image])[COLOURS].shape == (4 * layout.positions, config.vision.patch_numbers)


@each_family
@pytest.mark.parametrize("size", [(140, 84), (84, 140)], ids=str)
def test_a_painted_block_changes_its_own_position_alone(family: Family, size: tuple[int, int], tmp_path: Path) -> None:
    """An image of whole blocks is not scaled."""
    write_files(tmp_path, family)
    processing = read_checkpoint(tmp_path).processing()
    columns, rows = size[0] // 28, size[1] // 28
    for row, column in ((0, 0), (rows - 1, columns - 1), (1, 2)):
        changed = changed_positions(processing, *painted_square(size, 28, row, column))
        assert np.flatnonzero(changed).tolist() == [row * columns + column]


@each_family
def test_a_prompt_has_its_marks_roles_and_positions(family: Family, tmp_path: Path) -> None:
    config = write_files(tmp_path, family)
    prompt = prepare(tmp_path, (140, 84), Box(2, 2, 20, 20))
    layout = prompt.images[0]
    assert (layout.rows, layout.columns) == (3, 5)
    image = np.flatnonzero(prompt.token_ids == config.image_token)
    assert len(image) == 15
    assert prompt.token_ids[image[0] - 1] == config.start_token
    assert prompt.token_ids[image[-1] + 1] == config.end_token
    assert np.flatnonzero(prompt.roles["Image Central Object"]).tolist() == [image[0]]
    first, axes = image[0], prompt.place.axes
    assert axes[:, first - 1].tolist() == [first - 1] * 3
    assert axes[:, image[-1]].tolist() == [first, first + 2, first + 4]
    assert axes[:, image[-1] + 1].tolist() == [first + 5] * 3
    assert prompt.place.delta == 5 - 15
    draw_image(prompt, read_checkpoint(tmp_path).processing())


def test_an_image_that_the_processor_refuses_is_set_aside(tmp_path: Path) -> None:
    write_files(tmp_path, QWEN2_VL)
    with pytest.raises(QuestionSetAside, match="more than 200 times as long"):
        prepare(tmp_path, (603, 3))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"patch_size": 28}, "pixels of shape"),
        ({"image_processor_type": "CLIPImageProcessor"}, "size is .*; expected numbers of pixels"),
        ({"min_pixels": 5000, "max_pixels": 4000}, "size is .*; expected numbers of pixels"),
    ],
)
def test_an_image_processor_of_another_form_is_refused(
    settings: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    write_files(tmp_path, QWEN2_5_VL, **settings)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_checkpoint(tmp_path).processing()
    assert "\n" not in str(caught.value)


# config.json


@pytest.mark.parametrize("family", [QWEN2_VL, QWEN2_5_VL], ids=lambda family: family.model_type)
def test_a_flat_file_of_the_hub_is_the_nested_one(family: Family) -> None:
    content = family.write_config(family.tiny, "bfloat16")
    text = content.pop("text_config")
    rotary = text.pop("rope_parameters")
    del text["model_type"], text["tie_word_embeddings"]
    rest = {"rope_theta": rotary["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}}
    flat = {**content, **text, **rest, "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 28}
    flat |= {"torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "vision_token_id": 36}
    flat["vision_config"] = {**flat["vision_config"], "in_chans": 3, "spatial_patch_size": 14}
    flat["vision_config"]["model_type"] = family.model_type
    assert family.read_config(Path("config.json"), flat) == family.tiny


@pytest.mark.parametrize(
    ("part", "values", "complaint"),
    [
        (None, {"model_type": "qwen2_5_vl_moe"}, "model_type is 'qwen2_5_vl_moe'"),
        ("text_config", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("text_config", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, "'yarn'"),
        (
            "text_config",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 1]}},
            r"mrope_section is \[2, 2, 1\]; expected three numbers with the sum 4",
        ),
        ("vision_config", {"temporal_patch_size": 1}, "temporal_patch_size is 1"),
        ("vision_config", {"window_size": 50}, "window_size is 50; supported: a multiple of 28"),
        ("vision_config", {"fullatt_block_indexes": [3]}, r"fullatt_block_indexes is \[3\]; supported: numbers from 0"),
        ("vision_config", {"out_hidden_size": 64}, "the tower's features have a width of 64, the decoder 32"),
        ("vision_config", {"num_heads": 3}, "a width of 16 and 3 heads"),
    ],
)
def test_what_is_not_computed_is_refused(part: str | None, values: dict[str, Any], complaint: str) -> None:
    content = QWEN2_5_VL.write_config(QWEN2_5_VL.tiny, "float32")
    (content if part is None else content[part]).update(values)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        QWEN2_5_VL.read_config(Path("config.json"), content)
    assert "\n" not in str(caught.value)
