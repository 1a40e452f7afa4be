"""Prompts of LLaVA-NeXT token for token against transformers' own processor, for the tokenizers of its decoders.

The authors and the first study tell a prompt in tokens chunk by chunk, cut at the image, and so do we; transformers'
own processor tells it in one piece, in which the image is a special token. Most tokenizers give the same both ways. One
that puts a space's mark before the first word of a text alone gives a mark more behind the image our way.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.families.llava_next.next_files import write_next
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.demo_tokenizer import BEGIN, IMAGE
from xmflow_jax.data.templates import NAMED_TEMPLATES
from xmflow_jax.families.checkpoint import read_checkpoint

TEXT = "Is the circle red or blue?"
TURNS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")


def byte_level(tokenizer: Tokenizer) -> Tokenizer:
    """As Llama 3's and Qwen2's are."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[BEGIN, "</s>", *TURNS, IMAGE],
        show_progress=False,
    )
    made.train_from_iterator([TEXT, "Answer the question using a single word or phrase."] * 3, trainer)
    begin = made.token_to_id(BEGIN)
    made.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)])
    return made


def prepended(tokenizer: Tokenizer) -> Tokenizer:
    """As files of Llama 2 and Mistral have it: every text between special tokens begins with a space's mark."""
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    return tokenizer


def first_word_alone(tokenizer: Tokenizer) -> Tokenizer:
    """As newer files of them have it, and the demonstration's."""
    return tokenizer


def both_ways(folder: Path, make: Any, template: str) -> tuple[list[int], list[int], Any]:
    """Our tokens and those of transformers' processor of one prompt, and the tokenizer."""
    from transformers import LlavaNextProcessor, PreTrainedTokenizerFast

    config = write_next(folder)
    made = make(Tokenizer.from_file(str(folder / "tokenizer.json")))
    made.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    made.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {
        "tokenizer_class": "PreTrainedTokenizerFast"
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    text = {**json.loads((folder / "config.json").read_text())["text_config"], "vocab_size": made.get_vocab_size()}
    whole = {**json.loads((folder / "config.json").read_text()), "text_config": text}
    whole["image_token_index"] = made.token_to_id(IMAGE)
    (folder / "config.json").write_text(json.dumps(whole))
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(picture)
    processing = read_checkpoint(folder).processing()
    question = Question("1", "1", picture, TEXT, "red", "task")
    ours = prepare_question(question, processing, NAMED_TEMPLATES[template]).token_ids.tolist()
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    processor = LlavaNextProcessor(
        processing.image_processor,
        tokenizer,
        patch_size=config.vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
    )
    with Image.open(picture) as opened:
        told = processor(images=opened, text=NAMED_TEMPLATES[template].render(TEXT), return_tensors="np")
    return ours, told["input_ids"][0].tolist(), tokenizer


@pytest.mark.parametrize("template", ["vicuna_v1", "mistral_instruct", "llava_llama_3", "qwen_1_5"])
@pytest.mark.parametrize("make", [byte_level, prepended], ids=lambda make: make.__name__)
def test_the_prompt_is_transformers_own_token_for_token(make: Any, template: str, tmp_path: Path) -> None:
    ours, theirs, tokenizer = both_ways(tmp_path, make, template)
    assert ours == theirs
    assert ours.count(tokenizer.convert_tokens_to_ids(IMAGE)) > 4


@pytest.mark.parametrize("template", ["vicuna_v1", "mistral_instruct"])
def test_where_a_space_is_put_before_the_first_word_alone_ours_has_one_more(template: str, tmp_path: Path) -> None:
    """As the authors' own code has it, which tells the text behind the image by itself."""
    ours, theirs, tokenizer = both_ways(tmp_path, first_word_alone, template)
    behind = len(ours) - ours[::-1].index(tokenizer.convert_tokens_to_ids(IMAGE))
    assert ours[behind] == tokenizer.convert_tokens_to_ids("▁")
    assert ours[:behind] + ours[behind + 1 :] == theirs
