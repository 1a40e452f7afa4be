"""Turns a question into a model's input, with the role of every token position.

Prompts are tokenised as in LLaVA and so in the first study (arXiv 2411.18620): cut at `<image>`, each chunk tokenised
on its own, the beginning-of-sequence token kept on the first chunk only, the image's positions put between the chunks.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int32

from xmflow_jax.data import roles
from xmflow_jax.data.batch import Bucket, StackPrompt, padded_length
from xmflow_jax.data.image_files import SeenImage, read_image
from xmflow_jax.data.images import FEATURE, ImageLayout
from xmflow_jax.data.patches import object_positions, padding_positions
from xmflow_jax.data.place import Place
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.spans import PieceAlphabet, token_range
from xmflow_jax.data.templates import IMAGE_PLACEHOLDER, QUESTION_PLACEHOLDER, Template
from xmflow_jax.errors import QuestionSetAside

Tree = Any
RoleMask = Bool[np.ndarray, " positions"]
# A role's positions, of the prompt or of the image encoder: one question's roles need not be of one length.
AnyRoleMask = Bool[np.ndarray, " _"]

# (width, height) of an image of which only the prompt's text matters.
_ANY_SIZE: Final = (336, 336)


@dataclass(frozen=True, eq=False)
class PreparedQuestion:
    """One question as a model reads it.

    Attributes:
        question: what was asked.
        prompt: the prompt's text, `<image>` not expanded.
        token_ids: the prompt's tokens; every image position holds the image token's id.
        pixels: what the model reads of one image for each `<image>` of the prompt (of one, where the image is read by
            cross-attention): an array or a tree of arrays (`Processing.pixels`).
        roles: the positions of each role. A role that the question has no data for is absent; one that has data but
            matches no position is all False. Image roles are over the encoder's positions where the image is read by
            cross-attention, all others over the prompt's.
        images: how each `<image>` of the prompt lies in its positions; of the one image, where it is read by
            cross-attention.
        place: the prompt's position ids and blocks.
        before: what stacks before the main one read, by their names.
    """

    question: Question
    prompt: str
    token_ids: Int32[np.ndarray, " positions"]
    pixels: Tree
    roles: Mapping[str, AnyRoleMask]
    images: tuple[ImageLayout, ...]
    place: Place
    before: Mapping[str, StackPrompt] = field(default_factory=dict)

    @property
    def bucket(self) -> Bucket:
        """What the prompts of one batch have in common: padded length, and the number of images."""
        return _bucket(len(self.token_ids), self.images)


@dataclass(frozen=True)
class _QuestionChunk:
    """The chunk of the prompt that holds the question, tokenised."""

    pieces: list[str]
    text_before_question: str
    offset: int
    alphabet: PieceAlphabet


def prepare_question(question: Question, processing: Processing, template: Template) -> PreparedQuestion:
    """Reads the question's image, tokenises the prompt and finds every role.

    A template that shows the image several times gets the same pixels as often.

    Raises:
        OptionError: the template does not fit the way in which the model reads the image.
        QuestionSetAside: the image is missing or cannot be read, it is not of the size that the object's boxes were
            drawn for, a box lies outside it, or the question's text is not found in the prompt.
    """
    _check_placeholder(question)
    image_in_prompt = processing.image_token_id is not None
    template.for_model(image_in_prompt)
    image = read_image(question.image_path)
    layout = processing.image_layout(image.size)
    images = (layout,) * max(1, template.images)
    token_ids, first_image, chunk = _tokenise(question.text, processing, template, layout)
    in_prompt = token_ids == FEATURE
    is_image = in_prompt if image_in_prompt else np.ones(layout.positions, bool)
    token_ids = np.where(in_prompt, processing.image_token_id or 0, token_ids).astype(np.int32)
    found = {
        roles.IMAGE: is_image,
        **_image_roles(question, processing, image, is_image),
        **_text_roles(question, chunk, len(token_ids)),
        roles.LAST: _mask(len(token_ids), len(token_ids) - 1, len(token_ids)),
        roles.ALL: np.ones(len(token_ids), bool),
    }
    system_end = min(first_image, int(np.argmax(found[roles.QUESTION])))
    found[roles.SYSTEM] = _mask(len(token_ids), 0, system_end)
    return PreparedQuestion(
        question=question,
        prompt=template.render(question.text),
        token_ids=token_ids,
        pixels=processing.pixels([image.picture] * len(images)),
        roles=found,
        images=images,
        place=processing.place(token_ids, images if image_in_prompt else ()),
    )


def tokens_without_image(
    question: Question, processing: Processing, template: Template
) -> Int32[np.ndarray, " positions"] | None:
    """The prompt's tokens, told without its image, with `FEATURE` at image positions; None where that decides.

    Raises:
        QuestionSetAside: the question's text holds `<image>`, or is not found in the prompt.
    """
    _check_placeholder(question)
    token_ids, _, chunk = _tokenise(question.text, processing, template, processing.image_layout(_ANY_SIZE))
    token_range(chunk.pieces, question.text, chunk.alphabet, chunk.text_before_question)
    return token_ids if processing.one_layout else None


def _check_placeholder(question: Question) -> None:
    if IMAGE_PLACEHOLDER in question.text:
        raise QuestionSetAside(f"the question's text {question.text!r} holds {IMAGE_PLACEHOLDER}")


def bucket_without_image(question: Question, processing: Processing, template: Template) -> Bucket | None:
    """The bucket that a question's prompt falls into, told without its image; None where that decides."""
    if not processing.one_layout:
        return None
    layout = processing.image_layout(_ANY_SIZE)
    token_ids, *_ = _tokenise(question.text, processing, template, layout)
    return _bucket(len(token_ids), (layout,) * max(1, template.images))


def _bucket(length: int, images: Iterable[ImageLayout]) -> Bucket:
    return padded_length(length), ((len(tuple(images)),),)


def available_roles(questions: Iterable[Question], views: Collection[str] = ()) -> tuple[str, ...]:
    """The roles that `prepare_question` finds for every one of these questions, told from their fields alone.

    Args:
        views: of `roles.VIEW_ROLES` those that the model's images have.
    """
    asked = list(questions)

    def all_have(field: Callable[[Question], object]) -> bool:
        return all(bool(field(question)) for question in asked)

    boxes, options = all_have(lambda q: q.boxes), all_have(lambda q: q.true_option and q.false_option)
    missing = {
        roles.IMAGE_CENTRAL_OBJECT: not boxes,
        roles.IMAGE_WITHOUT_CENTRAL_OBJECT: not boxes,
        roles.QUESTION_WITHOUT_OPTIONS: not options,
        roles.TRUE_OPTION: not all_have(lambda q: q.true_option),
        roles.FALSE_OPTION: not all_have(lambda q: q.false_option),
        roles.CENTRAL_OBJECT: not all_have(lambda q: q.central_object),
        **{role: role not in views for role in roles.VIEW_ROLES},
    }
    return tuple(role for role in roles.ROLES if not missing.get(role, False))


def _tokenise(
    text: str, processing: Processing, template: Template, layout: ImageLayout
) -> tuple[Int32[np.ndarray, " positions"], int, _QuestionChunk]:
    """The prompt's tokens, where its first image begins (its end, where it has none), and the question's chunk.

    `FEATURE` stands in for the image token: a chunk's own tokens could hold that id as well.
    """
    tokenizer, question_chunk = processing.tokenizer, None
    token_ids: list[int] = []
    image_begins: list[int] = []
    chunks = _chunks(template, layout)
    begin = template.images if processing.begins_behind_images else 0
    for index, chunk in enumerate(chunks):
        if index > 0:
            image_begins.append(len(token_ids))
            token_ids += layout.tokens.tolist()
        chunk_ids = list(tokenizer(chunk.replace(QUESTION_PLACEHOLDER, text)).input_ids)
        added = tokenizer.bos_token_id is not None and chunk_ids[:1] == [tokenizer.bos_token_id]
        if added:
            del chunk_ids[0]
        if index == begin and (added or processing.begins_behind_images):
            token_ids.append(tokenizer.bos_token_id)
        if QUESTION_PLACEHOLDER in chunk:
            question_chunk = _QuestionChunk(
                pieces=tokenizer.convert_ids_to_tokens(chunk_ids),
                text_before_question=chunk.partition(QUESTION_PLACEHOLDER)[0],
                offset=len(token_ids),
                alphabet=processing.alphabet,
            )
        token_ids += chunk_ids
    assert question_chunk is not None, "Template guarantees one question"
    return np.array(token_ids, np.int32), min([*image_begins, len(token_ids)]), question_chunk


def _chunks(template: Template, layout: ImageLayout) -> list[str]:
    """A prompt's text before, between and behind its images, with what the family's processor puts around them."""
    chunks = template.text.split(IMAGE_PLACEHOLDER)
    last = len(chunks) - 1
    return [
        f"{layout.text_behind if index > 0 else ''}{chunk}{layout.text_before if index < last else ''}"
        for index, chunk in enumerate(chunks)
    ]


def _text_roles(question: Question, chunk: _QuestionChunk, positions: int) -> dict[str, RoleMask]:
    def span(text: str) -> RoleMask:
        first, end = token_range(chunk.pieces, text, chunk.alphabet, chunk.text_before_question)
        return _mask(positions, chunk.offset + first, chunk.offset + end)

    def span_or_nothing(text: str) -> RoleMask:
        # An option that the question words differently leaves the role empty; only pathways that need it are affected.
        try:
            return span(text)
        except QuestionSetAside:
            return np.zeros(positions, bool)

    named = {
        roles.TRUE_OPTION: question.true_option,
        roles.FALSE_OPTION: question.false_option,
        roles.CENTRAL_OBJECT: question.central_object,
    }
    found = {roles.QUESTION: span(question.text)}
    found |= {role: span_or_nothing(text) for role, text in named.items() if text}
    if roles.TRUE_OPTION in found and roles.FALSE_OPTION in found:
        options = found[roles.TRUE_OPTION] | found[roles.FALSE_OPTION]
        found[roles.QUESTION_WITHOUT_OPTIONS] = found[roles.QUESTION] & ~options
    return found


def _image_roles(
    question: Question, processing: Processing, image: SeenImage, is_image: RoleMask
) -> dict[str, RoleMask]:
    def at_image_positions(one_image: Bool[np.ndarray, " image_positions"]) -> RoleMask:
        role = np.zeros_like(is_image)
        role[is_image] = np.tile(one_image, int(is_image.sum()) // len(one_image))
        return role

    found = {roles.IMAGE_PAD: at_image_positions(padding_positions(processing, image.size))}
    views = processing.image_layout(image.size).views
    found |= {role: at_image_positions(mask) for role, mask in views.items()}
    if question.boxes:
        central = at_image_positions(object_positions(processing, image.size, _upright_boxes(question, image)))
        found[roles.IMAGE_CENTRAL_OBJECT] = central
        found[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = is_image & ~central & ~found[roles.IMAGE_PAD]
    return found


def _upright_boxes(question: Question, image: SeenImage) -> Sequence[Box]:
    """The question's boxes in pixels of the upright image.

    In these they are given, but for those of an image whose stated size is that of its stored pixels alone: whoever
    drew them saw it as it is stored.
    """
    if question.image_size in (None, image.size):
        return question.boxes
    if question.image_size == image.stored_size:
        return [image.upright(box) for box in question.boxes]
    raise QuestionSetAside(
        f"image {question.image_path} is {_words(image.size)}, "
        f"but the object's box was drawn for {_words(question.image_size)}"
    )


def _mask(positions: int, first: int, end: int) -> RoleMask:
    mask = np.zeros(positions, bool)
    mask[first:end] = True
    return mask


def _words(size: tuple[int, int] | None) -> str:
    return "of no size" if size is None else f"{size[0]}x{size[1]}"
