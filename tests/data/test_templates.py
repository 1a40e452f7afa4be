import pytest

from xmflow_jax.data.templates import NAMED_TEMPLATES, resolve_template
from xmflow_jax.errors import OptionError


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


@pytest.mark.parametrize("text", ["{question}", "<image>", "<image> {question} {question}"])
def test_own_template_needs_its_placeholders(text: str) -> None:
    with pytest.raises(OptionError, match="exactly once"):
        resolve_template(text)


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(OptionError, match="unknown template 'vicuna'; choose vicuna_v1, llava_llama_3, plain"):
        resolve_template("vicuna")
    assert set(NAMED_TEMPLATES) == {"vicuna_v1", "llava_llama_3", "plain"}
