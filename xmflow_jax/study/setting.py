"""What questions are answered with: the model and its prompt, what is asked of it, how much at a time, who is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int32

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.knockout import FAST
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.study.options import EVERY
from xmflow_jax.weights.load import LoadedModel


@dataclass(frozen=True, eq=False)
class PromptedModel:
    """A model, and how a question is put to it.

    Attributes:
        model: the model.
        processing: the checkpoint's tokenizer and image processor.
        template: the prompt around a question.
        answer_length: most tokens of an answer.
    """

    model: LoadedModel
    processing: Processing
    template: Template
    answer_length: int

    def text_of(self, tokens: Any) -> str:
        """An answer's token ids as text, without special tokens and surrounding space."""
        return str(self.processing.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


@dataclass(frozen=True)
class KnockoutSettings:
    """What a sweep asks of the engines.

    Attributes:
        engine: FAST or PLAIN.
        select: CORRECT, WRONG or EVERY: the questions that go on, by what the base run answers.
        whole_answers: decode whole answers under knockout too, not their first token alone.
    """

    engine: str = FAST
    select: str = EVERY
    whole_answers: bool = True


DEFAULT_SETTINGS: Final = KnockoutSettings()


@dataclass(frozen=True)
class Batching:
    """How many questions are answered at a time.

    Attributes:
        size: questions of a batch.
        least_questions: the fewest that can be answered at a time, one for each device with questions of its own.
    """

    size: int
    least_questions: int = 1


@dataclass(frozen=True)
class Cards:
    """The questions that the report shows one by one.

    Attributes:
        make: a question's card, a row of `CARD_SCHEMA`.
        per_task: how many questions of each task get one, the first that have rows.
    """

    make: Callable[[PreparedQuestion], Mapping[str, Any]]
    per_task: int


@dataclass(frozen=True)
class News:
    """Who is told what while questions are answered; by default nobody.

    Attributes:
        advance: told how many more questions are done.
        waited: told for how many seconds the engine waited for a batch.
        say: told a line for people, such as that less is answered at a time.
    """

    advance: Callable[[int], None] = lambda count: None
    waited: Callable[[float], None] = lambda seconds: None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Setting:
    """What all questions of a sweep are answered with.

    Attributes:
        others: run folders beside the sweep's own whose questions are done as well.
    """

    prompted: PromptedModel
    knockouts: KnockoutSettings
    batching: Batching
    cards: Cards | None = None
    others: tuple[Path, ...] = ()
    news: News = field(default_factory=News)


def prepare(question: Question, prompted: PromptedModel) -> PreparedQuestion:
    """The question as the model reads it.

    Raises:
        QuestionSetAside: the question cannot be used, or `check_prompt` refuses its prompt.
    """
    prompt = prepare_question(question, prompted.processing, prompted.template)
    check_prompt(prompt, prompted)
    return prompt


def check_prompt(prompt: PreparedQuestion, prompted: PromptedModel) -> None:
    """Refuse a prompt that reaches beyond the model's positions or embeddings.

    Learned positions and embeddings end somewhere; an index beyond them would silently read the last one.

    Raises:
        QuestionSetAside: prompt and answer are longer than the model has positions for, or a token of the prompt has no
            embedding.
    """
    check_tokens(prompt.token_ids, prompted.processing, prompted.model.anatomy, prompted.answer_length)


def check_tokens(
    token_ids: Int32[np.ndarray, " positions"], processing: Processing, anatomy: Anatomy, answer_length: int
) -> None:
    """As `check_prompt`, of a prompt's tokens."""
    # The image's positions hold the image's features, whatever their token's id is.
    words = token_ids[token_ids != processing.image_token_id]
    if (largest := int(words.max(initial=0))) >= anatomy.vocabulary:
        piece = processing.tokenizer.convert_ids_to_tokens(largest)
        raise QuestionSetAside(
            f"the tokenizer gives {piece!r} the id {largest}, but the model has {anatomy.vocabulary} embeddings"
        )
    # The answer's last token is not read, and needs no position.
    longest = len(token_ids) + answer_length - 1
    if anatomy.positions is not None and longest > anatomy.positions:
        raise QuestionSetAside(
            f"its prompt of {len(token_ids)} tokens and an answer of up to {answer_length} exceed the model's "
            f"{anatomy.positions} positions"
        )
