"""Questions that a model has no positions or no embeddings for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.errors import CheckpointError, QuestionSetAside
from xmflow_jax.families.registry import LLAVA, VISION_ENCODER_DECODER
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.study.setting import PromptedModel, check_prompt

LEARNED = Anatomy((), vocabulary=50, positions=20)
ROTARY = Anatomy((), vocabulary=50)


def given(length: int, anatomy: Anatomy, answer_length: int = 3) -> tuple[Any, Any]:
    """A prompt of so many tokens, and a model of this anatomy whose tokenizer names its pieces by their ids."""
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda index: f"piece {index}")
    prompted = Mock(
        spec=PromptedModel,
        model=SimpleNamespace(anatomy=anatomy),
        processing=Mock(spec=Processing, tokenizer=tokenizer, image_token_id=60),
        answer_length=answer_length,
    )
    return Mock(spec=PreparedQuestion, token_ids=np.zeros(length, np.int32)), prompted


def test_the_answers_last_token_is_not_read_and_needs_no_position() -> None:
    check_prompt(*given(18, LEARNED))
    with pytest.raises(QuestionSetAside, match="prompt of 19 tokens and an answer of up to 3 exceed the model's 20"):
        check_prompt(*given(19, LEARNED))


def test_every_family_ends_where_its_configuration_says() -> None:
    """A Llama's rotary positions have no end of their own, but the model was trained on so many."""
    for family, key, part in (
        (LLAVA, "max_position_embeddings", "text_config"),
        (VISION_ENCODER_DECODER, "n_positions", "decoder"),
    ):
        for positions in (20, 24):
            content = family.write_config(family.tiny, "float32")
            content[part][key] = positions
            anatomy = family.anatomy(family.read_config(Path("config.json"), content))
            check_prompt(*given(positions - 2, anatomy))
            with pytest.raises(QuestionSetAside, match=f"exceed the model's {positions} positions"):
                check_prompt(*given(positions - 1, anatomy))


@pytest.mark.parametrize("positions", [0, -1, "many", None, 2.5])
def test_a_limit_that_is_none_is_refused(positions: Any) -> None:
    content = LLAVA.write_config(LLAVA.tiny, "float32")
    content["text_config"]["max_position_embeddings"] = positions
    with pytest.raises(CheckpointError, match=r"max_position_embeddings|LlavaConfig"):
        LLAVA.read_config(Path("config.json"), content)


def test_a_model_without_a_limit_has_none() -> None:
    check_prompt(*given(1000, ROTARY))


def test_a_token_without_embedding_sets_a_question_aside_and_the_images_token_does_not() -> None:
    prompt, setting = given(10, ROTARY)
    prompt.token_ids[3:5] = 60
    prompt.token_ids[7] = 49
    check_prompt(prompt, setting)
    prompt.token_ids[7] = 50
    with pytest.raises(
        QuestionSetAside, match="the tokenizer gives 'piece 50' the id 50, but the model has 50 embeddings"
    ):
        check_prompt(prompt, setting)
