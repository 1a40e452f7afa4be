"""Which prompt a checkpoint without `prompt.json` gets, and that a line says where it comes from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.tiny_processing import TEXT_DECODER, write_json, write_tiny_processing
from xmflow_jax.data.chosen_prompt import ChosenPrompt
from xmflow_jax.data.templates import NAMED_TEMPLATES, write_prompt_file
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import read_checkpoint

SUFFIX = " \nAnswer the question using a single word or phrase."

# As published: of LLaVA-1.5 (parts of a message, image first), of Llama 3 (a message is a text), of Llama 3.1 (a date).
VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_3_PARTS = (
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ 'Today: ' + date_string + ' ' + strftime_now('%Y') }} {{ messages[0]['content'] }} A:"
)
OWN_LLAMA_3 = (
    f"<|start_header_id|>user<|end_header_id|>\n\n<image>\n{{question}}{SUFFIX}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
LLAMA_3_WORDS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def with_words(*words: str) -> Callable[[Path], Any]:
    """Special words of the tokenizer, behind those that it has."""

    def write(folder: Path) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        first = max(content["model"]["vocab"].values()) + 1
        like = content["added_tokens"][0]
        content["added_tokens"] += [{**like, "id": first + at, "content": word} for at, word in enumerate(words)]
        path.write_text(json.dumps(content))

    return write


def in_file(name: str, template: Any) -> Callable[[Path], Any]:
    """A chat template where published checkpoints have it."""

    def write(folder: Path) -> None:
        path = folder / name
        if path.suffix == ".jinja":
            path.write_text(template)
        else:
            content = json.loads(path.read_text()) if path.exists() else {}
            write_json(path, {**content, "chat_template": template})

    return write


def prompt_of(folder: Path) -> ChosenPrompt:
    checkpoint = read_checkpoint(folder)
    return checkpoint.prompt(checkpoint.processing())


@pytest.fixture(name="chosen")
def fixture_chosen(tmp_path: Path) -> Callable[..., ChosenPrompt]:
    """The prompt of a LLaVA after some edits of its folder."""
    write_tiny_processing(tmp_path)

    def choose(*edits: Callable[[Path], Any]) -> ChosenPrompt:
        for edit in edits:
            edit(tmp_path)
        return prompt_of(tmp_path)

    return choose


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
@pytest.mark.parametrize("template", [LLAMA_3, LLAMA_3_PARTS], ids=["text", "parts"])
def test_a_llava_on_llama_3_gets_its_own_prompt(chosen: Callable[..., ChosenPrompt], file: str, template: str) -> None:
    prompt = chosen(with_words(*LLAMA_3_WORDS), in_file(file, template))
    assert prompt.template.text == OWN_LLAMA_3
    assert prompt.line().startswith(f"prompt chat: the checkpoint's own chat template, in {file}: ")


def test_llama_3_is_recognised_by_its_tokenizer_alone(chosen: Callable[..., ChosenPrompt]) -> None:
    prompt = chosen(with_words(*LLAMA_3_WORDS))
    assert prompt.template == NAMED_TEMPLATES["llava_llama_3"]
    assert prompt.line() == "prompt llava_llama_3: recognised by <|start_header_id|> in its tokenizer"


def test_vicunas_turns_are_the_studys_prompt(chosen: Callable[..., ChosenPrompt]) -> None:
    """The published chat template of LLaVA-1.5 lacks the system line that the model was trained and studied with."""
    prompt = chosen(in_file("chat_template.json", VICUNA))
    assert prompt.template == NAMED_TEMPLATES["vicuna_v1"]
    assert prompt.line().endswith("recognised by the turns USER: and ASSISTANT: in chat_template.json")


def test_a_system_line_of_its_own_stays(chosen: Callable[..., ChosenPrompt]) -> None:
    prompt = chosen(in_file("chat_template.jinja", "Be brief. USER: {{ messages[0].content }} ASSISTANT:"))
    assert prompt.template.text == f"Be brief. USER: <image>\n{{question}}{SUFFIX} ASSISTANT:"


def test_the_beginning_of_a_text_is_not_put_twice(chosen: Callable[..., ChosenPrompt]) -> None:
    prompt = chosen(in_file("chat_template.jinja", "{{ bos_token }}Q: {{ messages[0].content }} A:"))
    assert prompt.template.text.startswith("Q: <image>")


def test_the_prompt_is_the_same_every_day(chosen: Callable[..., ChosenPrompt]) -> None:
    assert chosen(in_file("chat_template.jinja", DATED)).template.text.startswith("Today: 26 Jul 2024 2024 <image>")


def test_named_chat_templates_and_the_order_of_files(chosen: Callable[..., ChosenPrompt]) -> None:
    several = [{"name": "rag", "template": "R"}, {"name": "default", "template": "T {{ messages[0].content }} A:"}]
    assert chosen(in_file("tokenizer_config.json", several)).template.text.startswith("T <image>")
    for file, mark in (("chat_template.json", "J"), ("chat_template.jinja", "X")):
        prompt = chosen(in_file(file, f"{mark} {{{{ messages[0].content }}}} A:"))
        assert prompt.template.text.startswith(f"{mark} <image>")


def test_what_authors_wrote_for_this_program_comes_first(chosen: Callable[..., ChosenPrompt]) -> None:
    prompt = chosen(in_file("chat_template.jinja", LLAMA_3), lambda one: write_prompt_file(one, "<image>{question}"))
    assert prompt.line() == "prompt checkpoint: the checkpoint's own, in its prompt.json"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no images here') }}", "no images here"),
        ("{% for", "cannot be used"),
        ("Hello", "it gives the question 0 times"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "times"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for i in range(10 ** 9) %}x{% endfor %}", "ange too big"),
        ("{{ messages[0].content }}{question}", "it holds {question}"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_said(
    chosen: Callable[..., ChosenPrompt], template: str, reason: str
) -> None:
    prompt = chosen(in_file("chat_template.jinja", template))
    assert prompt.template == NAMED_TEMPLATES["vicuna_v1"]
    assert "usual one of its family; chat_template.jinja holds a chat template that cannot be used" in prompt.line()
    assert reason in prompt.line()
    assert prompt.line().endswith("--template gives another")
    assert "\n" not in prompt.line()


def test_that_nothing_was_found_is_said(chosen: Callable[..., ChosenPrompt]) -> None:
    told = "prompt vicuna_v1: the usual one of its family; its files name none; --template gives another"
    assert chosen().line() == told


@pytest.mark.parametrize("word", ["<|im_start|>", "<start_of_turn>", "[INST]"])
def test_marks_of_an_unknown_format_are_said(chosen: Callable[..., ChosenPrompt], word: str) -> None:
    line = chosen(with_words(word)).line()
    assert f"its tokenizer has {word}, of a chat format that this prompt does not follow" in line


def test_a_pointer_in_place_of_a_chat_template_is_no_prompt(chosen: Callable[..., ChosenPrompt]) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 400\n"
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja is a git-lfs pointer"):
        chosen(in_file("chat_template.jinja", pointer))


def test_a_model_that_reads_the_image_elsewhere_keeps_its_familys_prompt(tmp_path: Path) -> None:
    write_tiny_processing(tmp_path, with_config=False)
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14}
    parts = {"encoder": vision, "decoder": TEXT_DECODER}
    write_json(tmp_path / "config.json", {"model_type": "vision-encoder-decoder", **parts})
    in_file("chat_template.jinja", LLAMA_3)(tmp_path)
    prompt = prompt_of(tmp_path)
    assert prompt.template == NAMED_TEMPLATES["plain_text"]
    assert "the chat template in chat_template.jinja is about text alone and not taken" in prompt.line()
