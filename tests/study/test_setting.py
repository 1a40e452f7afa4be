"""Questions that a model has no positions or no embeddings for."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.errors import QuestionSetAside
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


def test_rotary_positions_do_not_end() -> None:
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
