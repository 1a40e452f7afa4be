from pathlib import Path

import pytest

from xmflow_jax.data.templates import NAMED_TEMPLATES, Template, recorded_template, resolve_template, write_prompt_file
from xmflow_jax.errors import CheckpointError, OptionError


def test_vicuna_prompt_is_the_studys() -> None:
    # Written out from the study's protocol, not from the module's constants.
    assert resolve_template("vicuna_v1").render("Is it red?") == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nIs it red? \nAnswer the question using "
        "a single word or phrase. ASSISTANT:"
    )


def test_llama_3_prompt_is_the_studys() -> None:
    assert resolve_template("llava_llama_3").render("Is it red?") == (
        "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able "
        "to understand the visual content that the user provides, and assist the user with a variety of tasks using "
        "natural language.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\nIs it red? \nAnswer the "
        "question using a single word or phrase.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"
    )


def test_plain_prompt() -> None:
    assert resolve_template("plain").render("Is it red?") == (
        "<image>\nIs it red? \nAnswer the question using a single word or phrase.\n"
    )


def test_own_template_is_used_verbatim_but_for_typed_line_ends() -> None:
    template = resolve_template(r"Q: {question} <image>\nA: {x} ")
    assert template.name == "custom"
    assert template.render("why {so}?") == "Q: why {so}? <image>\nA: {x} "


@pytest.mark.parametrize("text", ["<image>", "<image> {question} {question}"])
def test_own_template_needs_its_question(text: str) -> None:
    with pytest.raises(OptionError, match="exactly once"):
        resolve_template(text)


def test_half_of_a_character_is_no_template(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"template '<image>\\ud83d\{question\}' holds half of a character"):
        resolve_template("<image>\ud83d{question}")
    write_prompt_file(tmp_path, "<image>{question}\udc00")
    with pytest.raises(CheckpointError, match=r"prompt\.json: template .* holds half of a character"):
        recorded_template(tmp_path, image_in_prompt=True)
    write_prompt_file(tmp_path, "<image>{question}\U0001f600")  # JSON writes it in two halves
    assert recorded_template(tmp_path, image_in_prompt=True) == Template("checkpoint", "<image>{question}\U0001f600")


def test_a_template_fits_the_way_in_which_the_image_is_read() -> None:
    with_image, without = resolve_template("<image> {question}"), resolve_template("{question}")
    assert with_image.for_model(image_in_prompt=True) is with_image
    assert without.for_model(image_in_prompt=False) is without
    with pytest.raises(OptionError, match="has no <image>; this model reads the image in its prompt"):
        without.for_model(image_in_prompt=True)
    with pytest.raises(OptionError, match="holds <image>; this model reads the image by cross-attention"):
        with_image.for_model(image_in_prompt=False)


def test_the_prompt_that_a_checkpoint_records(tmp_path: Path) -> None:
    assert recorded_template(tmp_path, image_in_prompt=True) is None
    write_prompt_file(tmp_path, "<image>{question} A:")
    assert recorded_template(tmp_path, image_in_prompt=True) == Template("checkpoint", "<image>{question} A:")
    with pytest.raises(CheckpointError, match=r"prompt\.json: template .* holds <image>"):
        recorded_template(tmp_path, image_in_prompt=False)
    (tmp_path / "prompt.json").write_text('{"template": 3}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="template is 3"):
        recorded_template(tmp_path, image_in_prompt=True)


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(OptionError, match="unknown template 'vicuna'; choose vicuna_v1, llava_llama_3, "):
        resolve_template("vicuna")
    of_chats = {"vicuna_v1", "llava_llama_3", "mistral_instruct", "qwen_1_5", "qwen_vl", "qwen3_vl"}
    of_chats |= {"internvl", "smolvlm", "idefics3"}
    assert set(NAMED_TEMPLATES) == {*of_chats, "plain", "plain_text"}
