"""One batch of questions through a whole study: answered, followed through the layers, made into rows.

`answer_question` does all of it for one question, without a run folder:

    prompted = PromptedModel(load_model(directory), load_processing(directory), template, answer_length=10)
    result = answer_question(question, study_rows, prompted)
    pandas.DataFrame(result.rows)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.question import Question
from xmflow_jax.knockout.arrays import stack_roles
from xmflow_jax.knockout.batch_answers import Answered, Request, answer_batch
from xmflow_jax.knockout.controls import Prompt, question_key
from xmflow_jax.knockout.kinds.drawn import DrawnEdges, control_overlap
from xmflow_jax.knockout.kinds.kind import Action
from xmflow_jax.knockout.lens import Lens
from xmflow_jax.knockout.study import Study, build_study, distinct
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.run.folder import NOT_SELECTED, SET_ASIDE
from xmflow_jax.scoring.answers import score_answer
from xmflow_jax.study.answer_tokens import option_tokens
from xmflow_jax.study.batches import skipped_row
from xmflow_jax.study.lens import TrackedWords, answer_lens, lens_rows, tracked_words
from xmflow_jax.study.memory_fit import Bounds, Portion, answer_within_memory, pieces_of
from xmflow_jax.study.options import CORRECT, EVERY, WRONG
from xmflow_jax.study.rows import first_token_answers, observe, question_rows, whole_answers
from xmflow_jax.study.setting import DEFAULT_SETTINGS, KnockoutSettings, PromptedModel, prepare


@dataclass(frozen=True, eq=False)
class TaskKnockouts:
    """A task's knockouts, made ready for the engines once for all of its batches.

    Attributes:
        rows: one for each knockout.
        study: all of them together.
    """

    rows: tuple[StudyRow, ...]
    study: Study

    @property
    def drawn(self) -> set[DrawnEdges]:
        """The matched controls, whose edges are drawn anew for each prompt."""
        return {one for one in distinct(self.study.actions) if isinstance(one, DrawnEdges)}

    def piece(self, number: int, pieces: int) -> Study:
        """Piece `number`, from 0, of the study cut into `pieces`."""
        if pieces == 1:
            return self.study
        own = pieces_of(self.rows, pieces)[number]
        return build_study([row.knockout for row in own], self.study.anatomy)


def task_knockouts(rows: Sequence[StudyRow], prompted: PromptedModel) -> TaskKnockouts:
    """The knockouts of these rows, made ready for a model."""
    return TaskKnockouts(tuple(rows), build_study([row.knockout for row in rows], prompted.model.anatomy))


class BaseReadings:
    """What the base run of a batch says, noted as the engine tells it: a part of the batch at a time.

    Attributes:
        texts: the answers.
        tokens: their token ids, end tokens included.
        finite: whether the logits at the answer position are numbers.
    """

    def __init__(self, prompts: Sequence[PreparedQuestion], prompted: PromptedModel, select: str) -> None:
        self._prompts, self._prompted, self._select = prompts, prompted, select
        self.texts = [""] * len(prompts)
        self.tokens: list[Int[np.ndarray, " step"]] = [np.zeros(0, int)] * len(prompts)
        self.finite: Bool[np.ndarray, " batch"] = np.ones(len(prompts), bool)

    def choose(
        self, some: slice, tokens: Int[np.ndarray, "batch step"], logits: Float[np.ndarray, "batch vocabulary"]
    ) -> Bool[np.ndarray, " batch"]:
        """Note the answers of some questions.

        Args:
            some: these questions' indexes in the batch.
            tokens: of their base answers.
            logits: at their answer positions.

        Returns:
            Which of them go on to the knockouts: those whose answer is right or wrong, as is selected.
        """
        self.tokens[some] = list(tokens)
        self.texts[some] = [self._prompted.text_of(row) for row in tokens]
        self.finite[some] = np.isfinite(logits).all(axis=-1)
        asked = zip((prompt.question for prompt in self._prompts[some]), self.texts[some], strict=True)
        right = np.array([score_answer(one, answer, one.scorer) == 1.0 for one, answer in asked])
        chosen = {CORRECT: right, WRONG: ~right, EVERY: np.ones_like(right)}[self._select]
        return np.asarray(self.finite[some] & chosen)

    def options(self, some: slice, tokens: Int[np.ndarray, "batch step"]) -> Int[np.ndarray, "batch 2"]:
        """The first tokens of each question's true and false option, whose log-odds are measured."""
        tokenizer, vocabulary = self._prompted.processing.tokenizer, self._prompted.model.anatomy.vocabulary
        given = zip(self._prompts[some], self.texts[some], tokens[:, 0].tolist(), strict=True)
        return np.array([option_tokens(own.question, told, first, tokenizer, vocabulary) for own, told, first in given])


@dataclass(frozen=True, eq=False)
class BatchAnswers:
    """A batch's answers: those of its base run, and what each knockout makes of them.

    Attributes:
        prompts: the questions as the model reads them.
        keys: each question's own number, by which its controls are drawn.
        base: what the base run says.
        answered: the engines' measures.
    """

    prompts: Sequence[PreparedQuestion]
    keys: Sequence[int]
    base: BaseReadings
    answered: Answered


def answer_prompts(
    prompts: Sequence[PreparedQuestion],
    knockouts: TaskKnockouts,
    prompted: PromptedModel,
    settings: KnockoutSettings,
    portion: Portion,
    bounds: Bounds,
) -> tuple[BatchAnswers, Portion]:
    """Base run, selection and knockouts of one batch.

    Args:
        portion: what is computed at a time, to begin with.
        bounds: how small the portion may become where memory ends.

    Returns:
        The answers, and what fitted the device's memory.

    Raises:
        OptionError: not even one configuration of the fewest questions fits.
    """
    keys = [question_key(prompt.question.task, prompt.question.question_id) for prompt in prompts]
    base = BaseReadings(prompts, prompted, settings.select)

    def answer_some(some: slice, piece: int, portion: Portion) -> Answered:
        request = Request(
            knockouts.piece(piece, portion.pieces),
            prompted.processing.end_tokens,
            prompted.answer_length,
            settings.engine,
            settings.whole_answers,
        )
        return answer_batch(
            prompted.model.net,
            prompts[some],
            request,
            lambda tokens, logits: base.choose(some, tokens, logits),
            lambda tokens: base.options(some, tokens),
            portion.questions,
            keys[some],
        )

    answered, portion = answer_within_memory(answer_some, len(prompts), portion, bounds)
    return BatchAnswers(prompts, keys, base, answered), portion


@dataclass(frozen=True, eq=False)
class Followed:
    """A batch's answers, tracked through the layers by the logit lens.

    Attributes:
        words: what is followed, for each question.
        lens: the probabilities, with the questions on the first axis.
    """

    words: Sequence[TrackedWords]
    lens: Lens


def follow_answers(batch: BatchAnswers, prompted: PromptedModel) -> Followed | None:
    """Track the base answers through the layers; None where no question was selected."""
    if batch.answered.states is None:
        return None
    tokenizer, vocabulary = prompted.processing.tokenizer, prompted.model.anatomy.vocabulary
    given = zip(batch.prompts, batch.base.texts, batch.base.tokens, strict=True)
    words = [tracked_words(own.question, text, int(first[0]), tokenizer, vocabulary) for own, text, first in given]
    return Followed(words, answer_lens(prompted.model, batch.answered.states, words))


@dataclass(frozen=True)
class QuestionResult:
    """What one question leaves: rows, or the reason why it has none.

    Attributes:
        rows: one for each knockout that its prompt allows (`ROW_SCHEMA`).
        lens: its answer tracked through the layers (`LENS_SCHEMA`).
        skipped: a row of `SKIPPED_SCHEMA`; None where there are rows.
    """

    rows: Sequence[Mapping[str, Any]]
    lens: Sequence[Mapping[str, Any]]
    skipped: Mapping[str, str] | None


def _without_rows(skipped: Mapping[str, str]) -> QuestionResult:
    return QuestionResult((), (), skipped)


def question_result(
    batch: BatchAnswers, index: int, knockouts: TaskKnockouts, followed: Followed | None, prompted: PromptedModel
) -> QuestionResult:
    """The result of one question, by its index in the batch."""
    question, answer, answered = batch.prompts[index].question, batch.base.texts[index], batch.answered
    measured = answered.measured

    if not batch.base.finite[index]:
        return _without_rows(skipped_row(question, SET_ASIDE, "the model's output is not finite", answer))
    if measured is None or followed is None or not answered.selected[index]:
        return _without_rows(skipped_row(question, NOT_SELECTED, f"answered {answer!r} to {question.answer!r}", answer))
    if not np.isfinite(measured.knockout_prob[index]).all():
        return _without_rows(
            skipped_row(question, SET_ASIDE, "the model's output under knockout is not finite", answer)
        )
    prompt = batch.prompts[index]
    drawn_for = Prompt(stack_roles(prompt), batch.keys[index], prompt.place.blocks)
    overlaps: dict[Action, float] = {one: control_overlap(one, drawn_for) for one in knockouts.drawn}
    found = _knockout_answers(batch, index, prompted)
    observed = observe(question, answer, found, measured, answered.margins, index)
    rows = question_rows(question, knockouts.rows, answered.impossible[index], observed, overlaps, prompt.roles)
    if not rows:
        return _without_rows(skipped_row(question, SET_ASIDE, "none of the pathways exists in its prompt", answer))
    decode = prompted.processing.tokenizer.decode
    return QuestionResult(rows, lens_rows(question, followed.words[index], followed.lens, index, decode), None)


def _knockout_answers(batch: BatchAnswers, index: int, prompted: PromptedModel) -> list[str]:
    """The texts of one question's answers, one for each knockout."""
    answered, base = batch.answered, batch.base
    if answered.tokens is not None:
        return whole_answers(base.texts[index], base.tokens[index], answered.tokens[index], prompted.text_of)
    assert answered.measured is not None
    first, others = int(answered.measured.base_token[index]), answered.measured.knockout_token[index].tolist()
    return first_token_answers(base.texts[index], first, others, prompted.processing.tokenizer.decode)


def answer_question(
    question: Question,
    rows: Sequence[StudyRow],
    prompted: PromptedModel,
    settings: KnockoutSettings = DEFAULT_SETTINGS,
) -> QuestionResult:
    """One question under a study's knockouts: what `run_sweep` would land of it in a batch of its own.

    Args:
        rows: one for each knockout (`xmflow_jax.knockout.study_rows.pathway_study`).

    Raises:
        QuestionSetAside: the question cannot be used.
        OptionError: not even one configuration fits the device's memory.
    """
    knockouts = task_knockouts(rows, prompted)
    bounds = Bounds(most_pieces=len(rows))
    batch, _ = answer_prompts([prepare(question, prompted)], knockouts, prompted, settings, Portion(1), bounds)
    return question_result(batch, 0, knockouts, follow_answers(batch, prompted), prompted)
