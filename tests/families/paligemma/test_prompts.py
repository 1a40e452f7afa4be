"""PaliGemma's prompts and pixels against transformers' processor, and what sees what in them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.families.gemma_files import BEGIN, SPECIAL, write_gemma_tokenizer, write_siglip_processor
from xmflow_jax.data import roles
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.paligemma.modeling import PaliGemmaConfig
from xmflow_jax.families.registry import PALIGEMMA

SIDE, PATCHES = 28, 4
TEXT = "is it red or blue?"
IMAGE, BOS = SPECIAL.index("<image>"), SPECIAL.index(BEGIN)


def config(vocabulary: int) -> PaliGemmaConfig:
    return replace(PALIGEMMA.tiny, text=replace(PALIGEMMA.tiny.text, vocabulary=vocabulary), image_token=IMAGE)


@pytest.fixture(name="checkpoint", params=[True, False], ids=["adds a beginning", "adds none"])
def fixture_checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, PaliGemmaConfig]:
    """A directory without weights, whose tokenizer begins every text or does not."""
    vocabulary = write_gemma_tokenizer(tmp_path, adds_begin=request.param, image="<image>")
    write_siglip_processor(tmp_path, "SiglipImageProcessor", SIDE, image_seq_length=PATCHES)
    picture = np.random.default_rng(0).integers(0, 255, (50, 37, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    return tmp_path, config(vocabulary)


def prepared(folder: Path, own: PaliGemmaConfig) -> PreparedQuestion:
    question = Question("1", "1", folder / "picture.png", TEXT, "red", "task", boxes=(Box(20, 0, 16, 25),))
    return prepare_question(question, PALIGEMMA.processing(folder, own), PALIGEMMA.template(folder, own))


def test_tokens_and_pixels_are_those_of_transformers(checkpoint: tuple[Path, PaliGemmaConfig]) -> None:
    from transformers import PaliGemmaProcessor, PreTrainedTokenizerFast, SiglipImageProcessorPil

    folder, own = checkpoint
    # transformers' processor takes the beginning that PaliGemma's own tokenizer adds away; it cannot here.
    write_gemma_tokenizer(folder / "none", adds_begin=False, image="<image>")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder / "none")
    processor = PaliGemmaProcessor(SiglipImageProcessorPil.from_pretrained(folder), tokenizer)
    with Image.open(folder / "picture.png") as picture:
        picture.load()
    theirs = processor(images=picture, text=f"<image>answer en {TEXT}", return_tensors="np")
    ours = prepared(folder, own)
    assert ours.token_ids.tolist() == theirs["input_ids"][0].tolist()
    np.testing.assert_array_equal(ours.pixels[0], theirs["pixel_values"][0].transpose(1, 2, 0))
    assert ours.token_ids.tolist()[: PATCHES + 1] == [IMAGE] * PATCHES + [BOS]
    assert (ours.token_ids == BOS).sum() == 1


def test_the_whole_prompt_is_one_block_counted_from_one(checkpoint: tuple[Path, PaliGemmaConfig]) -> None:
    ours = prepared(*checkpoint)
    length = len(ours.token_ids)
    assert ours.place.axes.tolist() == [list(range(1, length + 1))]
    assert ours.place.delta == 1
    assert ours.place.blocks is not None
    assert ours.place.blocks.tolist() == [1] * length


def test_a_tokenizer_without_a_beginning_is_refused(checkpoint: tuple[Path, PaliGemmaConfig]) -> None:
    folder, own = checkpoint
    file = folder / "tokenizer_config.json"
    settings = {key: value for key, value in json.loads(file.read_text()).items() if key != "bos_token"}
    file.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="no token that begins a text; expected bos_token in tokenizer_config"):
        PALIGEMMA.processing(folder, own)


def test_roles(checkpoint: tuple[Path, PaliGemmaConfig]) -> None:
    folder, own = checkpoint
    ours = prepared(folder, own)
    assert np.flatnonzero(ours.roles[roles.IMAGE]).tolist() == [0, 1, 2, 3]
    # The right upper quarter of the picture, whatever its shape.
    assert np.flatnonzero(ours.roles[roles.IMAGE_CENTRAL_OBJECT]).tolist() == [1]
    assert not ours.roles[roles.IMAGE_PAD].any()
    assert not ours.roles[roles.SYSTEM].any()
    words = PALIGEMMA.processing(folder, own).tokenizer.convert_ids_to_tokens(ours.token_ids)
    asked = "".join(np.array(words)[ours.roles[roles.QUESTION]]).replace("▁", " ")
    assert asked.strip() == TEXT
    assert words[-1] == "\n"
    assert np.flatnonzero(ours.roles[roles.LAST]).tolist() == [len(words) - 1]
