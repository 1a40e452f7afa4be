"""Which tokens end an answer, told from the tokenizer and what transformers' `generate` reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from tests.data.tiny_processing import load_processing, write_tiny_processing
from xmflow_jax.data.end_tokens import find_end_tokens
from xmflow_jax.errors import CheckpointError


@pytest.fixture(name="checkpoint")
def fixture_checkpoint(tmp_path: Path) -> Path:
    write_tiny_processing(tmp_path)
    return tmp_path


def name_ends(checkpoint: Path, value: Any) -> None:
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": value}), encoding="utf-8")


@pytest.mark.parametrize(
    ("named", "others"), [(None, []), (2, []), (7, [7]), ([5, 2, 7], [5, 7])], ids=["none", "same", "one", "several"]
)
def test_the_tokenizers_own_comes_first_and_generations_behind_it(
    checkpoint: Path, named: Any, others: list[int]
) -> None:
    assert load_processing(checkpoint).end_tokens == (2,)
    name_ends(checkpoint, named)
    assert load_processing(checkpoint).end_tokens == (2, *others)


def test_an_answer_ends_with_its_turn_whatever_the_files_name(checkpoint: Path) -> None:
    """As LLaVA with Llama 3, whose files name `<|end_of_text|>` alone."""
    tokenizer = load_processing(checkpoint).tokenizer
    tokenizer.add_tokens([AddedToken("<|eot_id|>", special=True), AddedToken("<|im_end|>", special=False)])
    turn = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert find_end_tokens(tokenizer, checkpoint) == (2, turn)
    name_ends(checkpoint, [turn, 9])
    assert find_end_tokens(tokenizer, checkpoint) == (2, turn, 9)


@pytest.mark.parametrize("value", ["</s>", [2, None], True, -1, 2.0])
def test_what_is_no_id_is_refused(checkpoint: Path, value: Any) -> None:
    name_ends(checkpoint, value)
    with pytest.raises(CheckpointError, match=r"generation_config\.json: eos_token_id is .*; expected a token's id"):
        load_processing(checkpoint)
