import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil

from tests.data.tiny_processing import (
    CENTRE_CROP,
    PAD_TO_SQUARE,
    PLAIN_RESIZE,
    TEXT_DECODER,
    load_processing,
    write_json,
    write_tiny_processing,
)
from xmflow_jax.errors import CheckpointError

GEOMETRIES = [CENTRE_CROP, PAD_TO_SQUARE, PLAIN_RESIZE]


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    write_json(path, {key: value for key, value in (content | values).items() if value is not None})


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(50, 37), (37, 50), (28, 28), (9, 20)])
def test_pixels_are_transformers_own_with_channels_last(tmp_path: Path, geometry: str, size: tuple[int, int]) -> None:
    write_tiny_processing(tmp_path, geometry=geometry)
    image = noise(*size)
    pixels = load_processing(tmp_path).pixels([image])[0]
    kind = LlavaImageProcessorPil if geometry == PAD_TO_SQUARE else CLIPImageProcessorPil
    expected = kind.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"]
    assert expected.shape == (1, 3, 28, 28)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, :, channel], expected[0, channel])
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    pixels = load_processing(tmp_path).pixels([Image.new("RGB", (40, 40), (255, 0, 51))])[0]
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    expected = (np.array([1.0, 0.0, 0.2]) - mean) / deviation
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (28, 28, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    "processor_type",
    ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "LlavaImageProcessor"],
)
def test_every_name_of_the_image_processor_gives_the_pil_one(tmp_path: Path, processor_type: str) -> None:
    write_tiny_processing(tmp_path, processor_type=processor_type)
    image = noise(50, 37)
    expected = CLIPImageProcessorPil.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(load_processing(tmp_path).pixels([image])[0], expected.transpose(1, 2, 0))


def test_image_processor_nested_in_processor_config(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    before = load_processing(tmp_path).pixels([noise(50, 37)])[0]
    old = tmp_path / "preprocessor_config.json"
    write_json(
        tmp_path / "processor_config.json",
        {"image_processor": json.loads(old.read_text()), "processor_class": "LlavaProcessor"},
    )
    old.unlink()
    np.testing.assert_array_equal(load_processing(tmp_path).pixels([noise(50, 37)])[0], before)


def test_plain_pixels_keep_their_colours(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path, geometry=PLAIN_RESIZE)
    image = noise(28, 28)
    plain = load_processing(tmp_path).plain_pixels(image)
    assert plain.dtype == np.uint8
    np.testing.assert_array_equal(plain, np.asarray(image))


@pytest.mark.parametrize(("strategy", "positions", "before"), [("default", 6 * 6, 0), ("full", 6 * 6 + 1, 1)])
def test_positions_of_an_image(tmp_path: Path, strategy: str, positions: int, before: int) -> None:
    size = write_tiny_processing(tmp_path, image_size=42, patch_size=7, select_strategy=strategy)
    processing = load_processing(tmp_path)
    layout = processing.image_layout((50, 37))
    assert layout.positions == positions
    assert [layout.box(position) for position in range(before + 2)] == [None] * before + [(0, 0, 7, 7), (7, 0, 14, 7)]
    assert layout.grid == (6, 6)
    assert processing.image_token_id == size - 1


def test_image_token_under_its_newer_name(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    change(tmp_path / "config.json", image_token_index=None, image_token_id=17)
    assert load_processing(tmp_path).image_token_id == 17


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (["config.json"], "config.json is missing"),
        (["tokenizer.json"], "no tokenizer; expected tokenizer.json"),
        (
            ["preprocessor_config.json"],
            "no image processor configuration; expected preprocessor_config.json or processor_config.json",
        ),
    ],
)
def test_missing_file_is_named(tmp_path: Path, files: list[str], complaint: str) -> None:
    write_tiny_processing(tmp_path)
    for name in files:
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=complaint):
        load_processing(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_broken_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    write_tiny_processing(tmp_path)
    (tmp_path / name).write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_processing(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("config.json", {"model_type": "no_such"}, "model_type is 'no_such'; supported: 'llava'"),
        ("config.json", {"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy"),
        ("config.json", {"vision_config": {"model_type": "dinov2"}}, "'dinov2'; supported"),
        ("config.json", {"vision_config": {"model_type": "siglip_vision_model"}}, "SigLIP has none; supported: 'full'"),
        (
            "config.json",
            {"vision_config": {"model_type": "clip_vision_model", "image_size": 42, "patch_size": 14}},
            r"pixels of shape \(28, 28, 3\), but the vision tower of config.json reads \(42, 42, 3\)",
        ),
        ("preprocessor_config.json", {"do_center_crop": False}, r"pixels of shape \(28, 42, 3\)"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "image processor does not work"),
        ("preprocessor_config.json", {"image_processor_type": "NoSuchImageProcessor"}, "image processor"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, name: str, values: dict[str, Any], complaint: str) -> None:
    write_tiny_processing(tmp_path)
    change(tmp_path / name, **values)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_processing(tmp_path)
    assert "\n" not in str(caught.value)


def test_tokenizer_of_the_published_layout(tmp_path: Path) -> None:
    """Published Llama tokenizers put the first space by a normalizer, newer ones by a pre-tokenizer."""
    write_tiny_processing(tmp_path)
    texts = ["\nIs it red? ", "USER: ", ""]
    newer = load_processing(tmp_path).tokenizer
    expected = [newer(text).input_ids for text in texts]
    steps = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    change(tmp_path / "tokenizer.json", pre_tokenizer=None, normalizer={"type": "Sequence", "normalizers": steps})
    older = load_processing(tmp_path).tokenizer
    assert [older(text).input_ids for text in texts] == expected
    assert older.convert_ids_to_tokens(expected[0])[:3] == ["<s>", "▁", "<0x0A>"]


def test_sentencepiece_model_alone_is_refused(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "tokenizer.model")
    told = r"no tokenizer; expected tokenizer\.json, .*; tokenizer\.model alone is not read: make tokenizer\.json of it"
    with pytest.raises(CheckpointError, match=told):
        load_processing(tmp_path)


def write_vit(folder: Path, processor: dict[str, Any], **encoder: Any) -> Path:
    """A vision encoder-decoder's files; its ViT reads 28 pixels."""
    write_tiny_processing(folder, 28, 14, with_config=False)
    tower = {"model_type": "vit", "image_size": 28, "patch_size": 14, **encoder}
    write_json(
        folder / "config.json",
        {
            "model_type": "vision-encoder-decoder",
            "encoder": tower,
            "decoder": TEXT_DECODER,
        },
    )
    settings = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    write_json(folder / "preprocessor_config.json", {**settings, "resample": 2, **processor})
    return folder


SQUARE = {"height": 28, "width": 28}
VIT_PROCESSORS: list[dict[str, Any]] = [
    {"feature_extractor_type": "ViTFeatureExtractor", "size": 28},
    {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "do_rescale": True, "rescale_factor": 1 / 255},
    {"image_processor_type": "ViTImageProcessorFast", "size": SQUARE},
]


@pytest.mark.parametrize("processor", VIT_PROCESSORS, ids=["old", "torch", "fast"])
def test_pixels_of_vit_under_every_name(tmp_path: Path, processor: dict[str, Any]) -> None:
    """Resized to the square without a crop, bilinear, from 0..1 to -1..1."""
    processing = load_processing(write_vit(tmp_path, processor))
    image = noise(50, 37)
    resized = np.asarray(image.resize((28, 28), Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(processing.pixels([image])[0], (resized / 255 - 0.5) / 0.5, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(processing.plain_pixels(image), resized.astype(np.uint8))
    layout = processing.image_layout(image.size)
    assert (processing.image_token_id, layout.box(0), layout.positions) == (None, None, 5)


@pytest.mark.parametrize(
    ("encoder", "complaint"),
    [
        ({"image_size": [28, 28]}, "image_size is [28, 28]; supported: an integer from 1 up"),
        ({"patch_size": [14, 14]}, "patch_size is [14, 14]; supported: an integer from 1 to 28"),
        ({"patch_size": 0}, "patch_size is 0; supported: an integer from 1 to 28"),
        ({"patch_size": 56}, "patch_size is 56; supported: an integer from 1 to 28"),
        (
            {"image_size": 32},
            "gives pixels of shape (28, 28, 3), but the vision tower of config.json reads (32, 32, 3)",
        ),
    ],
)
def test_towers_of_other_sizes_are_refused(tmp_path: Path, encoder: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(complaint)):
        load_processing(write_vit(tmp_path, VIT_PROCESSORS[1], **encoder))


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no directory"):
        load_processing(tmp_path / "none")


def test_works_without_pytorch_and_tensorflow(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    program = """
import sys
for name in ("torch", "torchvision", "tensorflow"):
    sys.modules[name] = None  # importing it now fails
from pathlib import Path
from PIL import Image
from xmflow_jax.families.checkpoint import read_checkpoint
processing = read_checkpoint(Path(sys.argv[1])).processing()
print(processing.pixels([Image.new("RGB", (50, 40))])[0].shape, processing.tokenizer("a b").input_ids[0])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.split("\n")[-2] == "(28, 28, 3) 1"
