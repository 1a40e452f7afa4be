"""Answers one task's questions and lands their rows, batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.knockout.actions import Action, DrawnEdges
from xmflow_jax.knockout.batch_answers import Answered, answer_batch
from xmflow_jax.knockout.controls import control_overlap, question_key
from xmflow_jax.knockout.fast.placement import build_study
from xmflow_jax.run.folder import NOT_SELECTED, SET_ASIDE, RunFolder, read_cards
from xmflow_jax.scoring.answers import score_answer
from xmflow_jax.study.answer_tokens import option_tokens
from xmflow_jax.study.batches import pending_batches, skipped_row, timed
from xmflow_jax.study.lens import TrackedWords, answer_lens, lens_rows, tracked_words
from xmflow_jax.study.memory_fit import Fit, answer_as_fits, pieces_of
from xmflow_jax.study.options import CORRECT, EVERY, WRONG
from xmflow_jax.study.rows import first_token_answers, observe, question_rows, whole_answers
from xmflow_jax.study.task_studies import TaskStudy
from xmflow_jax.weights.load import LoadedModel


@dataclass(frozen=True)
class Setting:
    """What all of a run's questions are answered with.

    Attributes:
        select: CORRECT, WRONG or EVERY.
        batch_size: questions at a time.
        answer_length: most tokens of an answer.
        whole_answers: decode whole answers under knockout too, not their first token alone.
        card: what the report shows of a single question (`CARD_SCHEMA`); None leaves that out.
        cards: how many questions of each task get one, the first that have rows.
        waited: told for how many seconds the engine waited for a batch.
        others: run folders whose questions are done as well.
        fit: what fits the device's memory, as far as it is known; None: the whole batch.
        least_questions: that can be answered at a time, one for each device with questions of its own.
        say: told when less is answered at a time.
    """

    model: LoadedModel
    processing: Processing
    template: Template
    engine: str
    select: str
    batch_size: int
    answer_length: int
    whole_answers: bool = True
    card: Callable[[PreparedQuestion], Mapping[str, Any]] | None = None
    cards: int = 0
    waited: Callable[[float], None] = lambda seconds: None
    others: tuple[Path, ...] = ()
    fit: Fit | None = None
    least_questions: int = 1
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class BaseAnswers:
    """A batch's, as they become known: texts, tokens, and whether the logits are numbers."""

    answers: list[str]
    tokens: list[Int[np.ndarray, " step"]]
    finite: Bool[np.ndarray, " batch"]


def answer_task(study: TaskStudy, setting: Setting, run: RunFolder, advance: Callable[[int], None]) -> Fit:
    """Answer the questions that are not in the run folder yet; every batch lands as one part.

    Args:
        advance: told how many more questions are done.

    Returns:
        What fitted the device's memory.
    """
    text = setting.model.config.text
    fit = setting.fit or Fit(setting.batch_size)
    knockouts = [row.knockout for row in study.rows]
    built = build_study(knockouts, text.layers, text.heads)
    drawn = {one for own in built.actions for one in own if isinstance(one, DrawnEdges)}
    tokenizer, vocabulary = setting.processing.tokenizer, text.vocabulary
    # Counted from the folder: batches come in the order of an undisturbed run, so a resumed run makes the same cards.
    cards_left = 0 if setting.card is None else setting.cards - int((read_cards(run.path)["task"] == study.task).sum())

    def text_of(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def prepare(question: Question) -> PreparedQuestion:
        prompt = prepare_question(question, setting.processing, setting.template)
        check_prompt(prompt, setting)
        return prompt

    batching = (setting.processing, setting.template, setting.batch_size)
    for places in timed(
        pending_batches(study.questions, prepare, *batching, run, advance, setting.others), setting.waited
    ):
        prompts = [place.prompt for place in places]
        keys = [question_key(prompt.question.task, prompt.question.question_id) for prompt in prompts]
        base = BaseAnswers([""] * len(prompts), [np.zeros(0, int)] * len(prompts), np.ones(len(prompts), bool))

        def answer_some(
            some: slice,
            piece: int,
            fit: Fit,
            prompts: list[PreparedQuestion] = prompts,
            keys: list[int] = keys,
            base: BaseAnswers = base,
        ) -> Answered:
            def select(
                tokens: Int[np.ndarray, "batch step"], logits: Float[np.ndarray, "batch vocabulary"]
            ) -> Bool[np.ndarray, " batch"]:
                base.tokens[some] = list(tokens)
                base.answers[some] = [text_of(row) for row in tokens]
                base.finite[some] = np.isfinite(logits).all(axis=-1)
                asked = zip((prompt.question for prompt in prompts[some]), base.answers[some], strict=True)
                right = np.array([score_answer(one, answer, one.scorer) == 1.0 for one, answer in asked])
                chosen = {CORRECT: right, WRONG: ~right, EVERY: np.ones_like(right)}[setting.select]
                return np.asarray(base.finite[some] & chosen)

            def options(tokens: Int[np.ndarray, "batch step"]) -> Int[np.ndarray, "batch 2"]:
                given = zip(prompts[some], base.answers[some], tokens[:, 0].tolist(), strict=True)
                return np.array(
                    [option_tokens(own.question, told, first, tokenizer, vocabulary) for own, told, first in given]
                )

            own = pieces_of(knockouts, fit.pieces)[piece]
            return answer_batch(
                setting.model.graphdef,
                setting.model.state,
                prompts[some],
                built if fit.pieces == 1 else build_study(own, text.layers, text.heads),
                setting.processing.end_tokens,
                setting.answer_length,
                select,
                setting.engine,
                fit.questions,
                setting.whole_answers,
                keys[some],
                options,
            )

        answered, fit = answer_as_fits(
            answer_some, len(prompts), fit, setting.least_questions, len(knockouts), setting.say
        )
        answers, base_tokens, finite = base.answers, base.tokens, base.finite
        followed: list[TrackedWords] = []
        if (states := answered.states) is not None:
            given = zip(prompts, answers, base_tokens, strict=True)
            followed = [
                tracked_words(own.question, answer, int(first[0]), tokenizer, vocabulary)
                for own, answer, first in given
            ]
            lens = answer_lens(setting.model, states, followed)
        cards: list[Mapping[str, Any]] = []
        rows, tracked, rest = [], [], []
        for place, prompt in enumerate(prompts):
            if places[place].done:
                continue
            question, answer, measured = prompt.question, answers[place], answered.measured
            if not finite[place]:
                rest.append(skipped_row(question, SET_ASIDE, "the model's output is not finite", answer))
            elif measured is None or not answered.selected[place]:
                rest.append(skipped_row(question, NOT_SELECTED, f"answered {answer!r} to {question.answer!r}", answer))
            elif not np.isfinite(measured.knockout_prob[place]).all():
                rest.append(skipped_row(question, SET_ASIDE, "the model's output under knockout is not finite", answer))
            else:
                impossible = answered.impossible[place]
                if answered.tokens is None:
                    first, others = int(measured.base_token[place]), measured.knockout_token[place].tolist()
                    found = first_token_answers(answer, first, others, tokenizer.decode)
                else:
                    found = whole_answers(answer, base_tokens[place], answered.tokens[place], text_of)
                overlaps: dict[Action, float] = {
                    action: control_overlap(action, prompt.roles, keys[place]) for action in drawn
                }
                observed = observe(question, answer, found, measured, answered.margins, place)
                own = question_rows(question, study.rows, impossible, observed, overlaps)
                if not own:
                    rest.append(skipped_row(question, SET_ASIDE, "none of the pathways exists in its prompt", answer))
                else:
                    tracked += lens_rows(question, followed[place], lens, place, tokenizer.decode)
                    if setting.card is not None and len(cards) < cards_left:
                        cards.append(setting.card(prompt))
                rows += own
        run.append_part(rows, tracked, cards)
        cards_left -= len(cards)
        if rest:
            run.append_skipped(rest)
        advance(sum(not place.done for place in places))
    return fit


def check_prompt(prompt: PreparedQuestion, setting: Setting) -> None:
    """Learned positions and embeddings end somewhere; an index beyond them would silently read the last one.

    Raises:
        QuestionSetAside: prompt and answer are longer than the model has positions for, or a token of the prompt has no
            embedding.
    """
    anatomy = setting.model.anatomy
    # The image's positions hold the image's features, whatever their token's id is.
    words = prompt.token_ids[prompt.token_ids != setting.processing.image_token_id]
    if (largest := int(words.max(initial=0))) >= anatomy.vocabulary:
        piece = setting.processing.tokenizer.convert_ids_to_tokens(largest)
        raise QuestionSetAside(
            f"the tokenizer gives {piece!r} the id {largest}, but the model has {anatomy.vocabulary} embeddings"
        )
    longest = len(prompt.token_ids) + setting.answer_length - 1
    if anatomy.positions is not None and longest > anatomy.positions:
        raise QuestionSetAside(
            f"its prompt of {len(prompt.token_ids)} tokens and an answer of up to {setting.answer_length} exceed the "
            f"model's {anatomy.positions} positions"
        )
