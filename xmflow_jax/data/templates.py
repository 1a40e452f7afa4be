"""Prompt templates: the text around a question, with one place for it and, where the model reads the image in its
prompt, at least one for the image.

Sources: the conversation templates `v1`, `llava_llama_3`, `mistral_instruct` and `qwen_1_5` of LLaVA
(arXiv 2304.08485) and the short-answer suffix that the first study (arXiv 2411.18620) puts behind every question.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmflow_jax.data.whole_text import is_whole
from xmflow_jax.errors import CheckpointError, OptionError
from xmflow_jax.json_files import read_json_object

IMAGE_PLACEHOLDER: Final = "<image>"
QUESTION_PLACEHOLDER: Final = "{question}"

# In a checkpoint's directory, where its authors wrote one.
PROMPT_FILE: Final = "prompt.json"

# The space before the line end is the study's; it is part of the prompt that the published numbers were made with.
STUDY_QUESTION: Final = "{question} \nAnswer the question using a single word or phrase."
_STUDY_TURN: Final = f"<image>\n{STUDY_QUESTION}"

_VICUNA_SYSTEM: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_LLAMA_3_SYSTEM: Final = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)


def _llama_3_turn(speaker: str, text: str) -> str:
    return f"<|start_header_id|>{speaker}<|end_header_id|>\n\n{text}"


@dataclass(frozen=True)
class Template:
    """A prompt with `{question}` exactly once, and `<image>` wherever the image is read, if it is read in the prompt.

    Attributes:
        name: a named template's name, or `custom`.
        text: the whole prompt, used verbatim. The tokenizer's own beginning-of-sequence token is not part of it.
        asked: the question with the words around it that ask for a short answer, which a checkpoint's own chat
            template takes over.
    """

    name: str
    text: str
    asked: str = STUDY_QUESTION

    def __post_init__(self) -> None:
        questions = self.text.count(QUESTION_PLACEHOLDER)
        if questions != 1:
            raise OptionError(
                f"template {self.text!r} has {QUESTION_PLACEHOLDER} {questions} times; it needs it exactly once"
            )
        if not is_whole(self.text):
            raise OptionError(
                f"template {self.text!r} holds half of a character (a lone surrogate); expected Unicode text"
            )

    @property
    def images(self) -> int:
        """How often the prompt shows the image."""
        return self.text.count(IMAGE_PLACEHOLDER)

    def record(self) -> dict[str, str]:
        """What a run's record holds of it: the whole prompt, with its name."""
        return {"name": self.name, "text": self.text}

    def for_model(self, image_in_prompt: bool) -> "Template":
        """This template, where it fits a model that reads the image in its prompt, or by cross-attention.

        Raises:
            OptionError: it has no place for the image that the model needs, or one that the model cannot use.
        """
        if image_in_prompt and not self.images:
            raise OptionError(
                f"template {self.text!r} has no {IMAGE_PLACEHOLDER}; this model reads the image in its prompt, so it "
                f"needs {IMAGE_PLACEHOLDER} at least once"
            )
        if self.images and not image_in_prompt:
            raise OptionError(
                f"template {self.text!r} holds {IMAGE_PLACEHOLDER}; this model reads the image by cross-attention, so "
                f"its prompt has no place for one, such as {QUESTION_PLACEHOLDER!r}"
            )
        return self

    def render(self, question: str) -> str:
        """The prompt for `question`; braces in the question mean nothing."""
        return self.text.replace(QUESTION_PLACEHOLDER, question)


def _idefics3(name: str, begin: str) -> Template:
    """A turn of Idefics3's chats, with the words of its authors' evaluations."""
    asked = "{question}\nGive a very brief answer."
    return Template(name, f"{begin}User:{IMAGE_PLACEHOLDER}{asked}<end_of_utterance>\nAssistant:", asked)


NAMED_TEMPLATES: Final = {
    template.name: template
    for template in (
        Template("vicuna_v1", f"{_VICUNA_SYSTEM} USER: {_STUDY_TURN} ASSISTANT:"),
        Template(
            "llava_llama_3",
            _llama_3_turn("system", f"{_LLAMA_3_SYSTEM}<|eot_id|>")
            + _llama_3_turn("user", f"{_STUDY_TURN}<|eot_id|>")
            # The " \n" behind the assistant's header is the study's, as is the one before the suffix.
            + _llama_3_turn("assistant", " \n"),
        ),
        Template("mistral_instruct", f"[INST] {_STUDY_TURN} [/INST]"),
        Template(
            "qwen_1_5",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{_STUDY_TURN}<|im_end|>\n<|im_start|>assistant\n",
        ),
        # The image and the question stand side by side.
        Template(
            "qwen_vl",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{IMAGE_PLACEHOLDER}{STUDY_QUESTION}<|im_end|>\n<|im_start|>assistant\n",
        ),
        Template(
            "qwen3_vl",
            f"<|im_start|>user\n{IMAGE_PLACEHOLDER}{STUDY_QUESTION}<|im_end|>\n<|im_start|>assistant\n",
        ),
        # The image on a line of its own.
        Template("internvl", f"<|im_start|>user\n{_STUDY_TURN}<|im_end|>\n<|im_start|>assistant\n"),
        # The authors' own words for short answers.
        _idefics3("smolvlm", "<|im_start|>"),
        # The tokenizer itself begins a text.
        _idefics3("idefics3", ""),
        Template("plain", f"{_STUDY_TURN}\n"),
        # For models that read the image by cross-attention.
        Template("plain_text", f"{STUDY_QUESTION}\n"),
    )
}


def resolve_template(text: str) -> Template:
    r"""The template that `text` names or is.

    A text with a placeholder in it is a template of the user's own and is used verbatim, but for the two characters
    `\n`, which a shell passes through as typed and which become a line end.

    Raises:
        OptionError: a name that there is not, or a text without its placeholders.
    """
    if text in NAMED_TEMPLATES:
        return NAMED_TEMPLATES[text]
    if QUESTION_PLACEHOLDER not in text and IMAGE_PLACEHOLDER not in text:
        raise OptionError(
            f"unknown template {text!r}; choose {', '.join(NAMED_TEMPLATES)}, or give a text with "
            f"{QUESTION_PLACEHOLDER} in it (and {IMAGE_PLACEHOLDER}, for a model that reads the image in its prompt)"
        )
    return Template("custom", text.replace("\\n", "\n"))


def recorded_template(directory: Path, image_in_prompt: bool) -> Template | None:
    """The prompt in a checkpoint's `prompt.json`; None where there is no such file.

    Args:
        directory: the checkpoint's.
        image_in_prompt: whether the model reads the image in its prompt.

    Raises:
        CheckpointError: `prompt.json` is there and holds no template for such a model.
    """
    path = directory / PROMPT_FILE
    if not path.exists() and not path.is_symlink():
        return None
    text = read_json_object(path).get("template")
    if not isinstance(text, str):
        raise CheckpointError(f"{path}: template is {text!r}; expected a text with {QUESTION_PLACEHOLDER} in it")
    try:
        return Template("checkpoint", text).for_model(image_in_prompt)
    except OptionError as error:
        raise CheckpointError(f"{path}: {error}") from None


def write_prompt_file(directory: Path, template: str) -> None:
    """Records the prompt that a checkpoint was made for, in its directory."""
    (directory / PROMPT_FILE).write_text(json.dumps({"template": template}, indent=2) + "\n", encoding="utf-8")
