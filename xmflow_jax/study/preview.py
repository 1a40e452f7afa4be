"""A question as the model reads it, for a person's eyes: every token with its roles, every image with its patches.

Drawn from a prepared question alone, that is from the very arrays that the engines are given; no model is run.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from xmflow_jax.data import roles
from xmflow_jax.data.image_files import read_image
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.spans import piece_bytes
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.run.folder import make_folder, write_atomically

# A token has the colour of the first of these that it belongs to (ANSI, foreground).
COLOURS: Final[Mapping[str, str]] = {
    roles.LAST: "1;31",
    roles.TRUE_OPTION: "32",
    roles.FALSE_OPTION: "33",
    roles.CENTRAL_OBJECT: "35",
    roles.QUESTION: "34",
    roles.SYSTEM: "90",
}
# Tokens of these are underlined as well: their colour is mostly that of a role within them.
UNDERLINED: Final = roles.QUESTION

# Roles that follow from others, and are listed but not marked: options are marked, and everything is in `All`.
IMPLIED: Final = (roles.ALL, roles.QUESTION_WITHOUT_OPTIONS)

OBJECT_OUTLINE: Final = (255, 0, 0)
PADDING_CROSS: Final = (0, 96, 255)

# Side of a patch in the drawn image, at least, in pixels.
PATCH_SIDE: Final = 24


@dataclass(frozen=True, eq=False)
class PatchRoles:
    """Patches of one image, row by row.

    Attributes:
        objects: of the objects asked about; all False where the question has no boxes.
        padding: that show nothing of the image.
    """

    objects: Bool[np.ndarray, "rows columns"]
    padding: Bool[np.ndarray, "rows columns"]


def write_preview(
    questions: Sequence[Question],
    processing: Processing,
    template: Template,
    number: int,
    folder: Path,
    say: Callable[[str], None],
    colour: bool,
) -> tuple[Path, ...]:
    """Print the first usable questions with their tokens' roles, and draw their images.

    Of the unusable questions before them the reason is printed.

    Args:
        questions: looked at in their order.
        processing: the checkpoint's tokenizer and image processor.
        template: the prompt around a question.
        number: the most questions to show.
        folder: takes the images; made if need be.
        say: told each line.
        colour: mark roles by ANSI colours.

    Returns:
        The images' files.

    Raises:
        RunFolderError: an image cannot be written.
    """
    drawn: list[Path] = []
    say(legend(colour))
    for question in questions:
        if len(drawn) == number:
            break
        try:
            prompt = prepare_question(question, processing, template)
        except QuestionSetAside as reason:
            told = f"question {question.question_id!r} ({question.task}) would be set aside: {reason}"
            say(_printable(told).replace("\n", "\\n"))
            continue
        for line in prompt_lines(prompt, processing, colour):
            say(line)
        data = io.BytesIO()
        draw_image(prompt, processing).save(data, format="png")
        make_folder(folder)
        drawn.append(folder / image_name(len(drawn) + 1, prompt))
        write_atomically(drawn[-1], data.getvalue())
    if drawn:
        say(f"images as the model sees them in {folder}: red, patches of the objects asked about; blue, padding")
    return tuple(drawn)


def legend(colour: bool) -> str:
    """What the marks mean, in one line."""
    if not colour:
        return "Each [bracket] names the roles of the tokens in it; | stands between tokens."
    named = ", ".join(_painted(role, code, role == UNDERLINED) for role, code in COLOURS.items())
    return f"Roles: {named}; the Question's tokens are underlined; | stands between tokens."


def prompt_lines(prompt: PreparedQuestion, processing: Processing, colour: bool) -> list[str]:
    """The prompt with each token's roles, and below it every role's positions.

    Args:
        colour: mark roles by ANSI colours, else by names in brackets.
    """
    texts = token_texts(prompt, processing)
    image = _image_in_prompt(prompt, processing)
    marked = []
    for first, end, own in _runs(prompt, image):
        if own == (roles.IMAGE,):
            marked.append(f"<image: {end - first} positions>" if colour else f"[Image: {end - first} positions]")
            continue
        text = "|".join(texts[first:end])
        if colour:
            code = next((code for role, code in COLOURS.items() if role in own), "0")
            marked.append(_painted(text, code, UNDERLINED in own))
        else:
            marked.append(f"[{', '.join(own)}: {text}]" if own else text)
    joined = "|".join(marked)
    asked = f"question {prompt.question.question_id!r} ({prompt.question.task}), answer {prompt.question.answer!r}"
    lines = [_printable(asked).replace("\n", "\\n")]
    lines += [f"  {line}" for line in joined.split("\n")]
    lines += [f"    {role}: {_places(prompt, role, texts, image)}" for role in roles.ROLES if role in prompt.roles]
    return lines


def token_texts(prompt: PreparedQuestion, processing: Processing) -> list[str]:
    """The text that each token stands for; a line end is kept as one, other control characters are spelt out."""
    pieces = processing.tokenizer.convert_ids_to_tokens(prompt.token_ids.tolist())
    # The id that marks an image need be no word of the tokenizer's.
    known = [b"" if piece is None else piece_bytes(piece, processing.alphabet) for piece in pieces]
    return [_printable(one.decode(errors="replace")) for one in known]


def _printable(text: str) -> str:
    """The text with control characters other than line ends spelt out: they could move a terminal's cursor."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def _image_in_prompt(prompt: PreparedQuestion, processing: Processing) -> Bool[np.ndarray, " positions"]:
    if processing.image_token_id is None:  # image roles are over the encoder's positions, not the prompt's
        return np.zeros(len(prompt.token_ids), bool)
    return prompt.roles[roles.IMAGE]


def _runs(
    prompt: PreparedQuestion, image: Bool[np.ndarray, " positions"]
) -> Sequence[tuple[int, int, tuple[str, ...]]]:
    """Consecutive tokens of the same roles: (first, end, roles)."""
    shown = [role for role in prompt.roles if role not in (*roles.IMAGE_ROLES, *IMPLIED)]
    shown.sort(key=roles.ROLES.index)
    own = [
        (roles.IMAGE,) if image[place] else tuple(role for role in shown if prompt.roles[role][place])
        for place in range(len(image))
    ]
    borders = [0, *(place for place in range(1, len(own)) if own[place] != own[place - 1]), len(own)]
    return [(first, end, own[first]) for first, end in pairwise(borders)]


def _places(prompt: PreparedQuestion, role: str, texts: Sequence[str], image: Bool[np.ndarray, " positions"]) -> str:
    """A role's positions for people: `12 positions, 41 to 52: Is| the| shirt`."""
    mask = prompt.roles[role]
    found = np.flatnonzero(mask)
    if not len(found):
        return "no position"
    number = f"{len(found)} position{'' if len(found) == 1 else 's'}"
    if role in roles.IMAGE_ROLES:
        return f"{number} of {int(prompt.roles[roles.IMAGE].sum())}"
    if role == roles.ALL:
        return number
    text = "|".join("<image>" if image[place] else texts[place] for place in found.tolist()).replace("\n", "\\n")
    shown = text if len(text) <= 100 else f"{text[:48]} … {text[-48:]}"
    where = f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"
    return f"{number}, {where}: {shown}"


def _painted(text: str, code: str, underlined: bool) -> str:
    """The text in a colour, each line by itself, so that a pager that cuts lines keeps the colours."""
    start = f"\x1b[{code}{';4' if underlined else ''}m"
    return "\n".join(f"{start}{line}\x1b[0m" if line else line for line in text.split("\n"))


def patch_roles(prompt: PreparedQuestion) -> PatchRoles:
    """The first image's patches, from the prompt's roles."""
    is_image = prompt.roles[roles.IMAGE]

    layout = prompt.images[0]

    def patches(role: str) -> Bool[np.ndarray, "rows columns"]:
        if role not in prompt.roles:
            return np.zeros(layout.grid, bool)
        return layout.on_grid(prompt.roles[role][is_image][: layout.positions])

    return PatchRoles(patches(roles.IMAGE_CENTRAL_OBJECT), patches(roles.IMAGE_PAD))


def draw_image(prompt: PreparedQuestion, processing: Processing) -> Image.Image:
    """The image as the model sees it, with the objects' patches outlined in red and padding crossed out in blue.

    Raises:
        QuestionSetAside: the image has gone since the question was prepared.
    """
    pixels = processing.plain_pixels(read_image(prompt.question.image_path).picture)
    return draw_patches(pixels, prompt.images[0].side, patch_roles(prompt))


def draw_patches(pixels: UInt8[np.ndarray, "height width 3"], side: int, patches: PatchRoles) -> Image.Image:
    """The image with a mark on each patch that has a role.

    A mark stays within its patch's own square, so that what is marked can be read off the drawing.

    Args:
        pixels: as the vision tower gets them, before normalisation.
        side: of a patch in pixels.
    """
    factor = -(-PATCH_SIDE // side)
    drawn = Image.fromarray(np.kron(pixels, np.ones((factor, factor, 1), np.uint8)))
    pen, width = ImageDraw.Draw(drawn), max(1, side * factor // 16)
    for row, column in np.ndindex(patches.objects.shape):
        left, top = column * side * factor, row * side * factor
        right, bottom = left + side * factor - 1, top + side * factor - 1
        if patches.padding[row, column]:
            pen.line((left, top, right, bottom), PADDING_CROSS)
            pen.line((left, bottom, right, top), PADDING_CROSS)
        if patches.objects[row, column]:
            pen.rectangle((left, top, right, bottom), outline=OBJECT_OUTLINE, width=width)
    return drawn


def image_name(number: int, prompt: PreparedQuestion) -> str:
    """A file name for the drawing; question ids may hold any text."""
    stem = re.sub(r"[^\w.-]+", "_", f"{prompt.question.task}-{prompt.question.question_id}", flags=re.ASCII)
    return f"{number}-{stem[:80]}.png"
