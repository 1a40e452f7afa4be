"""Gemma 3's prompts and pixels against transformers' processor, and what sees what in them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import write_json
from tests.families.gemma_files import BEGIN, SPECIAL, write_gemma_tokenizer, write_siglip_processor
from tests.families.painting import changed_positions, painted_square
from xmflow_jax.data import roles
from xmflow_jax.data.chosen_prompt import choose_prompt
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.gemma3.modeling import Gemma3Config
from xmflow_jax.families.registry import GEMMA_3

SIDE, POSITIONS = 28, 4
TEXT = "is it red or blue?"
IMAGE, START, STOP = (SPECIAL.index(f"<{mark}>") for mark in ("image_soft_token", "start_of_image", "end_of_image"))
# As the chat templates of published checkpoints put one user's turn.
CHAT = """{{ bos_token }}{%- for message in messages -%}
{{ '<start_of_turn>' + message['role'] + '\n' }}
{%- if message['content'] is string -%}{{ message['content'] | trim }}
{%- else -%}{%- for item in message['content'] -%}
{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}
{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{{ '<end_of_turn>\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""


@pytest.fixture(name="checkpoint")
def fixture_checkpoint(tmp_path: Path) -> tuple[Path, Gemma3Config]:
    """A directory without weights."""
    vocabulary = write_gemma_tokenizer(tmp_path)
    write_siglip_processor(tmp_path, "Gemma3ImageProcessor", SIDE, do_pan_and_scan=None, resample=2)
    picture = np.random.default_rng(0).integers(0, 255, (50, 37, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    tiny = GEMMA_3.tiny
    return tmp_path, replace(
        tiny,
        text=replace(tiny.text, vocabulary=vocabulary),
        image_token=IMAGE,
        begin_token=START,
        end_token=STOP,
    )


def prepared(folder: Path, own: Gemma3Config, template: Template | None = None) -> PreparedQuestion:
    question = Question("1", "1", folder / "picture.png", TEXT, "red", "task", boxes=(Box(20, 0, 16, 25),))
    return prepare_question(question, GEMMA_3.processing(folder, own), template or GEMMA_3.template(folder, own))


def test_a_painted_square_changes_its_own_position_alone(checkpoint: tuple[Path, Gemma3Config]) -> None:
    """An image of the tower's own size is not scaled; a position pools a square of patches."""
    folder, own = checkpoint
    processing = GEMMA_3.processing(folder, own)
    for position in range(POSITIONS):
        row, column = divmod(position, own.side)
        changed = changed_positions(processing, *painted_square((SIDE, SIDE), SIDE // own.side, row, column))
        assert np.flatnonzero(changed).tolist() == [position]


@pytest.mark.parametrize("around", ["<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n", "en\n\n{}\n"])
def test_tokens_and_pixels_are_those_of_transformers(checkpoint: tuple[Path, Gemma3Config], around: str) -> None:
    from transformers import Gemma3ImageProcessorPil, Gemma3Processor, PreTrainedTokenizerFast

    folder, own = checkpoint
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    processor = Gemma3Processor(Gemma3ImageProcessorPil.from_pretrained(folder), tokenizer, image_seq_length=POSITIONS)
    with Image.open(folder / "picture.png") as picture:
        picture.load()
    theirs = processor(images=picture, text=around.format(f"<start_of_image>{TEXT}"), return_tensors="np")
    ours = prepared(folder, own, Template("custom", around.format("<image>{question}")))
    assert ours.token_ids.tolist() == theirs["input_ids"][0].tolist()
    np.testing.assert_array_equal(ours.pixels[0], theirs["pixel_values"][0].transpose(1, 2, 0))
    # Token types 1 are the blocks.
    assert ours.place.blocks is not None
    assert ours.place.blocks.tolist() == theirs["token_type_ids"][0].tolist()
    words = tokenizer.convert_ids_to_tokens(ours.token_ids)
    assert words.count(BEGIN) == 1
    first = words.index("<start_of_image>")
    # The empty line before an image is one token with the line end that ends the turn's header.
    assert words[first - 1] == "\n\n\n" or around.startswith("en")
    assert words[first : first + POSITIONS + 3] == [
        "<start_of_image>",
        *["<image_soft_token>"] * POSITIONS,
        "<end_of_image>",
        "\n\n",
    ]


def test_roles_and_places(checkpoint: tuple[Path, Gemma3Config]) -> None:
    folder, own = checkpoint
    ours = prepared(folder, own)
    words = GEMMA_3.processing(folder, own).tokenizer.convert_ids_to_tokens(ours.token_ids)
    image = np.flatnonzero(ours.roles[roles.IMAGE])
    assert [words[one] for one in image] == ["<image_soft_token>"] * POSITIONS
    # The right upper quarter of the picture, whatever its shape.
    assert np.flatnonzero(ours.roles[roles.IMAGE_CENTRAL_OBJECT]).tolist() == [image[1]]
    assert np.flatnonzero(ours.roles[roles.SYSTEM]).tolist() == list(range(image[0] - 1))
    asked = "".join(np.array(words)[ours.roles[roles.QUESTION]]).replace("▁", " ")
    assert asked.strip() == TEXT
    assert ours.place.axes.tolist() == [list(range(len(words)))]
    assert ours.place.delta == 0


def test_two_images_are_two_blocks(checkpoint: tuple[Path, Gemma3Config]) -> None:
    folder, own = checkpoint
    ours = prepared(folder, own, Template("custom", "<image><image>{question}"))
    assert ours.place.blocks is not None
    assert ours.place.blocks[ours.token_ids == IMAGE].tolist() == [1] * POSITIONS + [2] * POSITIONS
    assert set(ours.place.blocks[ours.token_ids != IMAGE].tolist()) == {0}


def test_the_chat_template_of_its_files_is_the_familys_prompt(checkpoint: tuple[Path, Gemma3Config]) -> None:
    folder, own = checkpoint
    write_json(folder / "chat_template.json", {"chat_template": CHAT})
    usual = GEMMA_3.template(folder, own)
    chosen = choose_prompt(folder, usual, GEMMA_3.processing(folder, own), image_in_prompt=True)
    assert chosen.template == usual
    assert chosen.origin == "the usual one of its family, as in chat_template.json"


def test_answers_end_with_the_turn(checkpoint: tuple[Path, Gemma3Config]) -> None:
    ends = GEMMA_3.processing(*checkpoint).end_tokens
    assert ends == (SPECIAL.index("<eos>"), SPECIAL.index("<end_of_turn>"))


def test_images_that_are_cut_up_are_refused(checkpoint: tuple[Path, Gemma3Config]) -> None:
    folder, own = checkpoint
    crops = {"pan_and_scan_min_crop_size": 8, "pan_and_scan_max_num_crops": 2}
    more = {**crops, "pan_and_scan_min_ratio_to_activate": 1.2}
    write_siglip_processor(folder, "Gemma3ImageProcessor", SIDE, do_pan_and_scan=True, **more)
    with pytest.raises(CheckpointError, match="do_pan_and_scan on, which cuts images up; supported: off"):
        GEMMA_3.processing(folder, own)
