"""Prompts of models that read the image by cross-attention: text alone, image roles over the encoder's positions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import TEXT_DECODER, load_processing, write_json, write_tiny_processing
from xmflow_jax.data import roles
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import resolve_template
from xmflow_jax.errors import CheckpointError, OptionError

TEMPLATE = resolve_template("Q: {question} A:")


def write_folder(folder: Path, tower: str = "clip_vision_model", **keys: object) -> Path:
    write_tiny_processing(folder, 28, 14, with_config=False)
    encoder = {"model_type": tower, "image_size": 28, "patch_size": 14}
    config = {
        "model_type": "vision-encoder-decoder",
        "encoder": encoder,
        "decoder": TEXT_DECODER,
        **keys,
    }
    write_json(folder / "config.json", config)
    return folder


@pytest.fixture(name="question")
def fixture_question(tmp_path: Path) -> Question:
    """The right lower quarter of the image is the object."""
    Image.new("RGB", (28, 28), (200, 10, 10)).save(tmp_path / "1.png")
    return Question(
        "01", "1", tmp_path / "1.png", "Is it red or blue?", "red", "ChooseAttr",
        true_option="red", false_option="blue", boxes=(Box(15, 15, 12, 12),),
    )  # fmt: skip


@pytest.mark.parametrize("tower", ["clip_vision_model", "vit"])
@pytest.mark.parametrize("keep_class_token", [None, True, False])
def test_image_roles_are_the_encoders_positions(
    question: Question, tmp_path: Path, tower: str, keep_class_token: bool | None
) -> None:
    keys = {} if keep_class_token is None else {"keep_class_token": keep_class_token}
    processing = load_processing(write_folder(tmp_path / "model", tower, **keys))
    assert processing.image_token_id is None
    before = [False] if keep_class_token is not False else []
    prompt = prepare_question(question, processing, TEMPLATE)
    np.testing.assert_array_equal(prompt.roles[roles.IMAGE], [True] * (4 + len(before)))
    np.testing.assert_array_equal(prompt.roles[roles.IMAGE_CENTRAL_OBJECT], [*before, False, False, False, True])
    others = prompt.roles[roles.IMAGE_WITHOUT_CENTRAL_OBJECT]
    np.testing.assert_array_equal(others, prompt.roles[roles.IMAGE] & ~prompt.roles[roles.IMAGE_CENTRAL_OBJECT])
    assert prompt.pixels.shape == (1, 28, 28, 3)


def test_text_roles_are_the_prompts_positions(question: Question, tmp_path: Path) -> None:
    processing = load_processing(write_folder(tmp_path / "model"))
    prompt = prepare_question(question, processing, TEMPLATE)
    length = len(prompt.token_ids)
    for role, mask in prompt.roles.items():
        assert len(mask) == (5 if role in roles.IMAGE_ROLES else length), role
    asked = processing.tokenizer.decode(prompt.token_ids[prompt.roles[roles.QUESTION]])
    assert asked.strip() == question.text
    assert np.flatnonzero(prompt.roles[roles.LAST]).tolist() == [length - 1]
    # What stands before the question, the beginning-of-sequence token included.
    first = int(np.argmax(prompt.roles[roles.QUESTION]))
    assert np.flatnonzero(prompt.roles[roles.SYSTEM]).tolist() == list(range(first))
    assert first > 1
    assert prompt.prompt == f"Q: {question.text} A:"
    assert (prompt.token_ids == processing.tokenizer(prompt.prompt).input_ids).all()


def test_a_template_with_a_place_for_the_image_is_refused(question: Question, tmp_path: Path) -> None:
    processing = load_processing(write_folder(tmp_path / "model"))
    with pytest.raises(OptionError, match="reads the image by cross-attention"):
        prepare_question(question, processing, resolve_template("<image> {question}"))
    in_prompt = replace(processing, image_token_id=3)
    with pytest.raises(OptionError, match="reads the image in its prompt"):
        prepare_question(question, in_prompt, TEMPLATE)


def test_unknown_towers_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "dinov2")
    with pytest.raises(
        CheckpointError, match=r"encoder\.model_type is 'dinov2'; supported: 'clip_vision_model', 'vit'"
    ):
        load_processing(folder)


def test_pixels_and_roles_do_not_depend_on_the_text(question: Question, tmp_path: Path) -> None:
    processing: Processing = load_processing(write_folder(tmp_path / "model"))
    one = prepare_question(question, processing, TEMPLATE)
    other = prepare_question(replace(question, text="Is it red or is it really blue?"), processing, TEMPLATE)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    for role in set(roles.IMAGE_ROLES) - set(roles.VIEW_ROLES):
        np.testing.assert_array_equal(one.roles[role], other.roles[role])
