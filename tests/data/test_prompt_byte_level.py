"""Prompts under a byte-level tokenizer, as Llama 3's is; `test_prompt` covers the SentencePiece kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.data.tiny_processing import load_processing, write_tiny_processing
from xmflow_jax.data import roles
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.spans import PieceAlphabet
from xmflow_jax.data.templates import resolve_template

TEMPLATES = ["vicuna_v1", "llava_llama_3", "{question} <image>", "{question}<image>", "A <image> b {question}?"]


@pytest.fixture(name="byte_level", scope="module")
def fixture_byte_level(tmp_path_factory: pytest.TempPathFactory) -> Processing:
    folder = tmp_path_factory.mktemp("byte_level")
    write_tiny_processing(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|begin|>", "<|eot_id|>", "<image>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Is the circle red or blue? Answer the question."] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|eot_id|>")
    fast.save_pretrained(folder)
    return load_processing(folder)


@pytest.fixture(name="question")
def fixture_question(tmp_path: Path) -> Question:
    path = tmp_path / "1.png"
    Image.new("RGB", (56, 28)).save(path)
    return Question("01", "1", path, "Is the circle red or blue?", "red", "ChooseAttr", true_option="red")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("text", ["Is the circle red or blue?", "Où est le café?"])
def test_byte_level_tokenizer(question: Question, byte_level: Processing, template: str, text: str) -> None:
    assert byte_level.alphabet is PieceAlphabet.BYTE_LEVEL
    prepared = prepare_question(replace(question, text=text), byte_level, resolve_template(template))
    asked = byte_level.tokenizer.decode(prepared.token_ids[prepared.roles[roles.QUESTION]])
    assert asked.strip() in (text, text + "?")
    assert np.flatnonzero(prepared.token_ids == byte_level.tokenizer.bos_token_id).tolist() == [0]
    assert prepared.roles[roles.IMAGE].sum() == 4
    if "red" in text:
        assert byte_level.tokenizer.decode(prepared.token_ids[prepared.roles[roles.TRUE_OPTION]]).strip() == "red"
