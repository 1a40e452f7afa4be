"""Files as older versions of transformers wrote them: same pixels, same ids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.data.test_processing import change, noise, write_vit
from tests.data.tiny_processing import (
    CENTRE_CROP,
    PAD_TO_SQUARE,
    PLAIN_RESIZE,
    load_processing,
    write_json,
    write_tiny_processing,
)
from xmflow_jax.errors import CheckpointError

END = "<|endoftext|>"
TEXTS = (
    "Is the circle red or blue? \nAnswer the question using a single word or phrase.\n",
    "It's naïve, isn't it?  Two  spaces, 1234 and 日本語",
    f"{END} a{END}",
    "",
)


@pytest.mark.parametrize(
    ("old", "today", "geometry"),
    [
        ("CLIPFeatureExtractor", "CLIPImageProcessor", CENTRE_CROP),
        ("CLIPFeatureExtractorFast", "CLIPImageProcessor", CENTRE_CROP),
        ("LlavaFeatureExtractor", "LlavaImageProcessor", PAD_TO_SQUARE),
        ("ViTFeatureExtractor", "ViTImageProcessor", PLAIN_RESIZE),
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "nested"])
def test_old_names_give_todays_pixels(tmp_path: Path, old: str, today: str, geometry: str, nested: bool) -> None:
    write_tiny_processing(tmp_path, geometry=geometry, processor_type=today)
    processing, image = load_processing(tmp_path), noise(50, 37)
    kind, before = type(processing.image_processor), processing.pixels([image])[0]
    path = tmp_path / "preprocessor_config.json"
    change(path, image_processor_type=old)
    if nested:
        write_json(tmp_path / "processor_config.json", {"image_processor": json.loads(path.read_text())})
        path.unlink()
    again = load_processing(tmp_path)
    assert type(again.image_processor) is kind
    np.testing.assert_array_equal(again.pixels([image])[0], before)


@pytest.mark.parametrize("key", ["image_processor_type", "feature_extractor_type"])
def test_old_names_of_vit_for_encoder_decoders(tmp_path: Path, key: str) -> None:
    image, size = noise(50, 37), {"height": 28, "width": 28}
    old = load_processing(write_vit(tmp_path / "old", {key: "ViTFeatureExtractor", "size": 28}))
    today = load_processing(write_vit(tmp_path / "today", {"image_processor_type": "ViTImageProcessor", "size": size}))
    np.testing.assert_array_equal(old.pixels([image])[0], today.pixels([image])[0])
    assert np.ptp(today.pixels([image])[0]) > 1


def test_an_old_name_of_no_known_class_is_refused(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path)
    change(tmp_path / "preprocessor_config.json", image_processor_type="WarpFeatureExtractor")
    with pytest.raises(CheckpointError, match="the image processor cannot be read"):
        load_processing(tmp_path)


def write_gpt2(folder: Path, settings: dict[str, Any] | None) -> Tokenizer:
    """vocab.json and merges.txt beside a vision encoder-decoder's other files; returns the tokenizer itself."""
    write_vit(folder, {"image_processor_type": "ViTImageProcessor", "size": {"height": 28, "width": 28}})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*TEXTS[:2], "the circle is red"] * 20, trainer)
    tokenizer.model.save(str(folder))
    if settings is not None:
        write_json(folder / "tokenizer_config.json", settings)
    return tokenizer


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024},
        {"tokenizer_class": "GPT2TokenizerFast", "eos_token": END, "bos_token": END},
        {"model_max_length": 1024},
        None,
    ],
    ids=["slow", "fast", "no class", "no settings"],
)
def test_gpt2s_vocabulary_and_merges_give_the_same_ids(tmp_path: Path, settings: dict[str, Any] | None) -> None:
    own = write_gpt2(tmp_path, settings)
    processing = load_processing(tmp_path)
    for text in TEXTS:
        ids = own.encode(text).ids
        assert processing.tokenizer(text).input_ids == ids
        assert processing.tokenizer.decode(ids) == text
    assert processing.end_tokens == (own.token_to_id(END),)


def test_the_same_files_with_tokenizer_json_beside_them_give_the_same_ids(tmp_path: Path) -> None:
    own = write_gpt2(tmp_path, {"tokenizer_class": "GPT2Tokenizer", "eos_token": END})
    without = load_processing(tmp_path).tokenizer
    own.save(str(tmp_path / "tokenizer.json"))
    beside = load_processing(tmp_path).tokenizer
    for text in TEXTS:
        assert beside(text).input_ids == without(text).input_ids


@pytest.mark.parametrize("missing", ["merges.txt", "vocab.json"])
def test_one_of_the_two_files_is_not_enough(tmp_path: Path, missing: str) -> None:
    write_gpt2(tmp_path, None)
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError, match=f"of the two {missing} is missing"):
        load_processing(tmp_path)


def test_another_tokenizers_vocabulary_and_merges_are_not_read_as_gpt2s(tmp_path: Path) -> None:
    write_gpt2(tmp_path, {"tokenizer_class": "RobertaTokenizer"})
    with pytest.raises(CheckpointError, match=r"'RobertaTokenizer' without tokenizer\.json; .* GPT-2's alone"):
        load_processing(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"])
def test_other_slow_tokenizers_say_how_to_convert_them(tmp_path: Path, name: str) -> None:
    write_tiny_processing(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name} alone is not read: make tokenizer.json of it once"):
        load_processing(tmp_path)
