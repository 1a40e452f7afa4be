"""Prompt templates: the text around a question, with one place for it and at least one for the image.

Sources: the conversation templates `v1` and `llava_llama_3` of LLaVA (arXiv 2304.08485) and the short-answer suffix
that the first study (arXiv 2411.18620) puts behind every question.
"""

from dataclasses import dataclass
from typing import Final

from xmflow_jax.errors import OptionError

IMAGE_PLACEHOLDER: Final = "<image>"
QUESTION_PLACEHOLDER: Final = "{question}"

# The space before the line end is the study's; it is part of the prompt that the published numbers were made with.
_STUDY_TURN: Final = "<image>\n{question} \nAnswer the question using a single word or phrase."

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
    """A prompt with `{question}` exactly once and `<image>` at least once, in either order.

    Attributes:
        name: a named template's name, or `custom`.
        text: the whole prompt, used verbatim. The tokenizer's own beginning-of-sequence token is not part of it.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        questions, images = self.text.count(QUESTION_PLACEHOLDER), self.text.count(IMAGE_PLACEHOLDER)
        if questions != 1 or images < 1:
            raise OptionError(
                f"template {self.text!r} has {QUESTION_PLACEHOLDER} {questions} times and {IMAGE_PLACEHOLDER} {images} "
                f"times; it needs {QUESTION_PLACEHOLDER} exactly once and {IMAGE_PLACEHOLDER} at least once"
            )

    def render(self, question: str) -> str:
        """The prompt for `question`; braces in the question mean nothing."""
        return self.text.replace(QUESTION_PLACEHOLDER, question)


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
        Template("plain", f"{_STUDY_TURN}\n"),
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
            f"unknown template {text!r}; choose {', '.join(NAMED_TEMPLATES)}, "
            f"or give a text with {QUESTION_PLACEHOLDER} and {IMAGE_PLACEHOLDER} in it"
        )
    return Template("custom", text.replace("\\n", "\n"))
