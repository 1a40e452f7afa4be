"""The prompt that a checkpoint was made for, as its files tell it, and in words where it comes from.

Looked for in this order:

1. `prompt.json`, where the checkpoint's authors wrote one for this program;
2. the chat template among its files, rendered in transformers' sandbox for one user's turn that shows an image and asks
   a question as the first study (arXiv 2411.18620) does. Vicuna's turns are recognised: the study put Vicuna's own
   system line before them, which published chat templates leave out;
3. marks of a chat format among the tokenizer's words;
4. what is usual in the model's family. Words say that nothing else was found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

import numpy as np

from xmflow_jax.data.images import FEATURE
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.templates import (
    IMAGE_PLACEHOLDER,
    NAMED_TEMPLATES,
    PROMPT_FILE,
    QUESTION_PLACEHOLDER,
    Template,
    recorded_template,
)
from xmflow_jax.data.whole_text import is_whole
from xmflow_jax.json_files import read_json_object, refuse_broken

# Where a chat template may stand, in transformers' order: a text, or a key of a JSON object.
CHAT_TEMPLATE: Final = "chat_template"
_TEXT_FILE: Final = "chat_template.jinja"
_JSON_FILES: Final = ("chat_template.json", "processor_config.json", "tokenizer_config.json")

# Marks of chat formats in a tokenizer's vocabulary, and the named prompt that has them.
_MARKS: Final[dict[str, str | None]] = {
    "<|start_header_id|>": "llava_llama_3",
    "<|im_start|>": None,
    "<start_of_turn>": None,
    "[INST]": None,
    "<|start_of_role|>": None,
}

# Most letters of a template's own complaint in a line.
REASON: Final = 120

# Stands for the question while a template is rendered, which may trim, but must not change it.
_STAND_IN: Final = "QUESTIONSTANDSHERE"

# Templates that print today's date would give another prompt every day. Llama 3.1's takes a date that is given, and has
# this one for lack of a clock; others ask the clock, in whose place they find one that stands still.
_DATE: Final = "26 Jul 2024"
_PARTS_OF_DATE: Final = {"%d": "26", "%m": "07", "%b": "Jul", "%B": "July", "%y": "24", "%Y": "2024", "%A": "Friday"}
_CLOCK: Final = "".join(f"|replace('{sign}', '{part}')" for sign, part in _PARTS_OF_DATE.items())
_STOPPED_CLOCK: Final = f"{{% macro strftime_now(form) -%}}{{{{ form{_CLOCK} }}}}{{%- endmacro %}}"


@dataclass(frozen=True)
class ChosenPrompt:
    """The prompt around every question.

    Attributes:
        template: the prompt.
        origin: where it comes from, and why it was taken, in words that follow its name.
    """

    template: Template
    origin: str

    def line(self) -> str:
        """For people: `prompt vicuna_v1: the usual one of its family; ...`."""
        return f"prompt {self.template.name}: {self.origin}"


def choose_prompt(directory: Path, usual: Template, processing: Processing, image_in_prompt: bool) -> ChosenPrompt:
    """The prompt that a checkpoint was made for.

    Args:
        directory: the checkpoint's.
        usual: its family's.
        processing: its tokenizer, and how images lie in a prompt.
        image_in_prompt: whether the model reads the image in its prompt.

    Raises:
        CheckpointError: `prompt.json` is there and holds no template for such a model, or a file is broken.
    """
    recorded = recorded_template(directory, image_in_prompt)
    if recorded is not None:
        return ChosenPrompt(recorded, f"the checkpoint's own, in its {PROMPT_FILE}")
    found = chat_template(directory)
    if not image_in_prompt:
        beside = f"; the chat template in {found[0]} is about text alone and not taken" if found else ""
        return ChosenPrompt(usual, f"the usual one of its family, whose prompts hold no image{beside}")
    unusable = ""
    if found is not None:
        file, text = found
        try:
            prompt = _rendered(text, usual.asked, processing)
        # Templates are programs: they fail in every way, or ask for messages of another form.
        except Exception as error:
            reason = shorten(str(error), REASON, placeholder=" ...") or type(error).__name__
            unusable = f"; {file} holds a chat template that cannot be used ({reason})"
        else:
            return _from_chat(file, prompt, usual)
    words = processing.tokenizer.get_vocab()
    marks = [mark for mark in _MARKS if mark in words and mark not in usual.text]
    named = next((one for mark in marks if (one := _MARKS[mark]) is not None), None)
    if named is not None:
        return ChosenPrompt(NAMED_TEMPLATES[named], f"recognised by {marks[0]} in its tokenizer{unusable}")
    strange = f"; its tokenizer has {marks[0]}, of a chat format that this prompt does not follow" if marks else ""
    nothing = unusable or "; its files name none"
    return ChosenPrompt(usual, f"the usual one of its family{nothing}{strange}; --template gives another")


def chat_template(directory: Path) -> tuple[str, str] | None:
    """The file that holds a checkpoint's chat template, and the template; None where there is none.

    Raises:
        CheckpointError: a file is broken.
    """
    for name in (_TEXT_FILE, *_JSON_FILES):
        refuse_broken(directory / name)
    if (directory / _TEXT_FILE).is_file():
        return _TEXT_FILE, (directory / _TEXT_FILE).read_text(encoding="utf-8", errors="replace")
    for name in _JSON_FILES:
        held = read_json_object(directory / name).get(CHAT_TEMPLATE) if (directory / name).is_file() else None
        if isinstance(held, list):  # several, by name
            by_name = {one.get("name"): one.get("template") for one in held if isinstance(one, dict)}
            held = by_name.get("default")
        if isinstance(held, str):
            return name, held
    return None


class _NoQuestion(ValueError):
    """A rendered template does not give the question once: it is made for another form of messages."""


def _from_chat(file: str, prompt: str, usual: Template) -> ChosenPrompt:
    """What a rendered chat template stands for."""
    vicuna = NAMED_TEMPLATES["vicuna_v1"]
    system = vicuna.text.partition(" USER:")[0]
    if prompt.startswith("USER:") and prompt.rstrip().endswith("ASSISTANT:") and system not in prompt:
        return ChosenPrompt(vicuna, f"the first study's, recognised by the turns USER: and ASSISTANT: in {file}")
    if prompt == usual.text:
        return ChosenPrompt(usual, f"the usual one of its family, as in {file}")
    if prompt.rstrip() == usual.text.rstrip():
        end = usual.text.removeprefix(usual.text.rstrip())
        return ChosenPrompt(usual, f"the first study's, as in {file} but for its end, {end!r}")
    return ChosenPrompt(Template("chat", prompt), f"the checkpoint's own chat template, in {file}: {prompt!r}")


def _rendered(text: str, asked: str, processing: Processing) -> str:
    """One user's turn as the template puts it, with `<image>` and `{question}` in their places.

    Args:
        text: the chat template.
        asked: as of `Template`.

    Raises:
        ValueError: it does not show the image and the question once each.
        Exception: whatever the template runs into.
    """
    question = asked.replace(QUESTION_PLACEHOLDER, _STAND_IN)
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    problem: Exception | None = None
    for content in (parts, f"{IMAGE_PLACEHOLDER}\n{question}"):
        try:
            prompt = processing.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=f"{_STOPPED_CLOCK}{text}",
                tokenize=False,
                add_generation_prompt=True,
                date_string=_DATE,
            )
            return _with_places(str(prompt), question, processing)
        except Exception as error:
            # A template for one form of messages complains of its own faults in that form alone.
            if problem is None or isinstance(problem, _NoQuestion):
                problem = error
    assert problem is not None, "both forms failed"
    raise problem


def _with_places(prompt: str, question: str, processing: Processing) -> str:
    if prompt.count(question) != 1:
        raise _NoQuestion(f"it gives the question {prompt.count(question)} times")
    if QUESTION_PLACEHOLDER in prompt:
        raise ValueError(f"it holds {QUESTION_PLACEHOLDER}")
    if not is_whole(prompt):
        raise ValueError("it holds half of a character")
    spelt = next((one for one in _image_spellings(processing) if one in prompt), None)
    if spelt is None or prompt.count(spelt) != 1:
        raise ValueError(f"it shows the image {0 if spelt is None else prompt.count(spelt)} times")
    tokenizer = processing.tokenizer
    first = tokenizer("a").input_ids[:1]
    if tokenizer.bos_token is not None and first == [tokenizer.bos_token_id]:  # put before every prompt anyhow
        prompt = prompt.removeprefix(tokenizer.bos_token)
    return prompt.replace(spelt, IMAGE_PLACEHOLDER).replace(_STAND_IN, QUESTION_PLACEHOLDER)


def _image_spellings(processing: Processing) -> Iterator[str]:
    """How a prompt's text may spell an image: with the marks that its layout puts around it, without, as we do, or by
    the first mark alone."""
    tokenizer, token = processing.tokenizer, processing.image_token_id
    image = str(tokenizer.convert_ids_to_tokens(token)) if token is not None and token < len(tokenizer) else None
    if image is not None:
        tokens: Any = processing.image_layout((336, 336)).tokens
        features = np.flatnonzero(tokens == FEATURE)
        before, behind = tokens[: features[0]].tolist(), tokens[features[-1] + 1 :].tolist()
        marks = ["".join(map(str, tokenizer.convert_ids_to_tokens(own))) for own in (before, behind)]
        if any(marks):
            yield f"{marks[0]}{image}{marks[1]}"
        yield image
    yield IMAGE_PLACEHOLDER
    if image is not None and marks[0]:  # the processor puts the rest there
        yield marks[0]
