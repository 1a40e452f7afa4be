"""A question's card: what it shows agrees with the prompt that the model is given."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import load_processing, write_tiny_processing
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import Template
from xmflow_jax.run.parts import table_of
from xmflow_jax.study.preview import draw_image
from xmflow_jax.study.question_card import THUMBNAIL_SIDE, cards_per_task, question_card


def prepared(folder: Path, image_size: int = 56) -> tuple[PreparedQuestion, Processing]:
    write_tiny_processing(folder, image_size=image_size)
    processing = load_processing(folder)
    image = np.zeros((60, 60, 3), np.uint8)
    image[:30, 30:] = (250, 0, 0)
    Image.fromarray(image).save(folder / "image.png")
    question = Question(
        "q", "i", folder / "image.png", "Is the car red or blue?", "red", "ChooseAttr", "red", "blue", "car",
        boxes=(Box(32, 2, 26, 26),),
    )  # fmt: skip
    return prepare_question(question, processing, Template("custom", "See: <image>\n{question} Answer:")), processing


def test_the_card_has_the_run_folders_columns(tmp_path: Path) -> None:
    card = question_card(*prepared(tmp_path))
    assert table_of([card], "cards").num_rows == 1
    assert card["text"] == "Is the car red or blue?"


def test_the_object_s_patches_are_those_of_the_role(tmp_path: Path) -> None:
    prompt, processing = prepared(tmp_path)
    card = question_card(prompt, processing)
    assert (card["patch_rows"], card["patch_columns"]) == (4, 4)
    # The upper right quarter of a grid of four by four.
    assert card["object_patches"] == [2, 3, 6, 7]
    role = prompt.roles["Image Central Object"][prompt.roles["Image"]]
    assert np.flatnonzero(role).tolist() == card["object_patches"]


def test_tokens_are_the_prompts_with_their_roles(tmp_path: Path) -> None:
    prompt, processing = prepared(tmp_path)
    card = question_card(prompt, processing)
    image = int(prompt.roles["Image"].sum())
    assert len(card["tokens"]) == len(card["token_roles"]) == len(prompt.token_ids) - image + 1
    (place,) = [place for place, own in enumerate(card["token_roles"]) if own == ["Image"]]
    assert card["tokens"][place] == f"<image: {image} positions>"
    question = "".join(text for text, own in zip(card["tokens"], card["token_roles"], strict=True) if "Question" in own)
    assert question.strip() == "Is the car red or blue?"
    assert card["token_roles"][-1] == ["Last"]
    told = {role for own in card["token_roles"] for role in own}
    assert told == {"Image", "Question", "True Option", "False Option", "Central Object", "Last", "System"}


@pytest.mark.parametrize(("image_size", "side"), [(56, 56), (336, THUMBNAIL_SIDE)])
def test_the_image_is_what_the_model_sees_made_small(image_size: int, side: int, tmp_path: Path) -> None:
    card = question_card(*prepared(tmp_path, image_size))
    image = Image.open(io.BytesIO(card["image"]))
    assert (image.format, image.size) == ("PNG", (side, side))
    assert np.asarray(image)[side // 8, -side // 8].tolist() == [250, 0, 0]
    assert np.asarray(image)[-side // 8, side // 8].tolist() == [0, 0, 0]


def test_the_card_and_the_preview_show_the_image_upright(tmp_path: Path) -> None:
    prompt, processing = prepared(tmp_path)
    before = question_card(prompt, processing)["image"], np.asarray(draw_image(prompt, processing))
    with Image.open(prompt.question.image_path) as image:
        sideways = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored image's first row is the right side
    sideways.save(prompt.question.image_path, exif=exif)
    assert question_card(prompt, processing)["image"] == before[0]
    np.testing.assert_array_equal(np.asarray(draw_image(prompt, processing)), before[1])


def test_an_image_that_has_gone_leaves_the_card_without_one(tmp_path: Path) -> None:
    prompt, processing = prepared(tmp_path)
    prompt.question.image_path.unlink()
    card = question_card(prompt, processing)
    assert card["image"] == b""
    assert card["object_patches"] == [2, 3, 6, 7]


@pytest.mark.parametrize(("tasks", "each"), [(0, 40), (1, 40), (6, 7), (65, 1)])
def test_few_tasks_have_many_cards_each(tasks: int, each: int) -> None:
    assert cards_per_task(tasks) == each
