"""Every question becomes whole words, and its roles are found among them as in any other prompt."""

import hashlib
from typing import Any

import numpy as np
import pytest

from tests.data.sources.shapes.answerer import options
from tests.data.tiny_processing import load_processing, write_json
from xmflow_jax.data import roles
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.shapes.captions import caption
from xmflow_jax.data.sources.shapes.scenes import paint
from xmflow_jax.data.sources.shapes.source import drawn_questions, shapes_questions
from xmflow_jax.data.sources.shapes.tokenizer import (
    CROSS_ATTENTION_TEMPLATE,
    LLAVA_TEMPLATE,
    vocabulary,
    write_shapes_tokenizer,
)
from xmflow_jax.data.templates import resolve_template

PATCH = 16


@pytest.fixture(name="processing", scope="module")
def fixture_processing(tmp_path_factory: pytest.TempPathFactory) -> Processing:
    folder = tmp_path_factory.mktemp("processing")
    size = write_shapes_tokenizer(folder)
    square = {"height": 96, "width": 96}
    switches = dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), True)
    settings: dict[str, Any] = {"size": {"shortest_edge": 96}, "crop_size": square, "resample": 3}
    settings |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "CLIPImageProcessor"}
    write_json(folder / "preprocessor_config.json", settings | switches)
    vision = {"model_type": "clip_vision_model", "image_size": 96, "patch_size": PATCH}
    config = {"model_type": "llava", "image_token_index": size - 1, "vision_feature_select_strategy": "default"}
    write_json(folder / "config.json", config | {"vision_config": vision})
    return load_processing(folder)


@pytest.fixture(name="questions", scope="module")
def fixture_questions(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    return read_questions(*shapes_questions(tmp_path_factory.mktemp("shapes"), "validation", 20, seed=1))


def tokens_of(processing: Processing, text: str) -> list[str]:
    return list(processing.tokenizer.convert_ids_to_tokens(processing.tokenizer(text).input_ids))


def test_recorded_vocabulary() -> None:
    """The shipped models' embeddings stand in this order."""
    tokens = vocabulary()
    assert len(set(tokens)) == len(tokens) == 60
    digest = hashlib.sha256("\n".join(tokens).encode()).hexdigest()
    assert digest == "e538e45b7ca90fbe43f919c2e50b76a1be71936e493669b5b43009040464df32"


def test_tokenizer_has_the_vocabulary(processing: Processing) -> None:
    assert processing.tokenizer.get_vocab() == {token: index for index, token in enumerate(vocabulary())}
    assert processing.tokenizer.eos_token_id == vocabulary().index("</s>")


def test_texts_become_one_token_a_word_and_come_back(processing: Processing) -> None:
    texts = set()
    for drawn in drawn_questions("train", 150, seed=6):
        texts |= {drawn.asked.text, drawn.asked.answer, caption(drawn.scene)}
    assert len(texts) > 700
    for text in texts:
        tokens = tokens_of(processing, text)
        assert tokens[0] == "<s>"
        assert "<unk>" not in tokens
        assert len(tokens) == 1 + len(text.split()) + sum(map(text.count, "?,."))
        assert processing.tokenizer.decode(processing.tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_unknown_words_become_one_unknown_token(processing: Processing) -> None:
    assert tokens_of(processing, "Is the hexagon red?") == ["<s>", "▁Is", "▁the", "<unk>", "▁red", "?"]


def test_roles_of_every_question(processing: Processing, questions: list[Question]) -> None:
    template = resolve_template(LLAVA_TEMPLATE)
    for question in questions:
        prepared = prepare_question(question, processing, template)

        def words(role: str) -> str:
            return processing.tokenizer.decode(prepared.token_ids[prepared.roles[role]])  # noqa: B023

        assert prepared.roles[roles.IMAGE].sum() == 36
        assert words(roles.QUESTION) == question.text
        assert words(roles.LAST) == ":"
        if question.true_option and question.false_option:
            assert words(roles.TRUE_OPTION) == question.true_option == question.answer
            assert words(roles.FALSE_OPTION) == question.false_option
            rest = question.text.split()
            for option in options(question.text):
                rest = [word for word in rest if word.strip("?") != option]
            assert words(roles.QUESTION_WITHOUT_OPTIONS).strip("?").split() == " ".join(rest).strip("?").split()
        if question.central_object:
            assert words(roles.CENTRAL_OBJECT) == question.central_object


def test_object_patches_are_those_of_the_objects_pixels(processing: Processing, questions: list[Question]) -> None:
    """Of the rectangles around them, that is, to which the study's code adds a pixel below and one to the right."""
    drawn = {one.question_id: one for one in drawn_questions("validation", 20, seed=1)}
    for question in questions:
        one = drawn[question.question_id]
        expected = np.zeros((96 // PATCH, 96 // PATCH), bool)
        for index in one.asked.things:
            thing = one.scene.things[index]
            top, left = thing.row * 32, thing.column * 32
            cell = paint(one.scene)[top : top + 32, left : left + 32]
            rows, columns = np.nonzero((cell != one.scene.background).any(-1))
            first = (top + rows.min()) // PATCH, (left + columns.min()) // PATCH
            last = (top + rows.max() + 1) // PATCH, (left + columns.max() + 1) // PATCH
            expected[first[0] : last[0] + 1, first[1] : last[1] + 1] = True
        prepared = prepare_question(question, processing, resolve_template(LLAVA_TEMPLATE))
        role = prepared.roles[roles.IMAGE_CENTRAL_OBJECT][prepared.roles[roles.IMAGE]]
        np.testing.assert_array_equal(role, expected.ravel())


def test_both_models_read_the_same_words(processing: Processing) -> None:
    """But for the image: so the answer is read at the same token."""
    question = "Is the red circle small or large?"
    in_prompt = tokens_of(processing, LLAVA_TEMPLATE.replace("{question}", question))
    by_cross_attention = tokens_of(processing, CROSS_ATTENTION_TEMPLATE.replace("{question}", question))
    assert [token for token in in_prompt if token != "<image>"] == by_cross_attention
    assert by_cross_attention[-2:] == ["▁Answer", ":"]
    assert not np.isin("<image>", by_cross_attention)
