"""Answers one task's questions and lands their rows, batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.knockout.configuration import Action, DrawnEdges
from xmflow_jax.knockout.controls import control_overlap, question_key
from xmflow_jax.knockout.plan import build_study
from xmflow_jax.knockout.study_batch import answer_batch
from xmflow_jax.models.gpt2 import Gpt2Config
from xmflow_jax.results import NOT_SELECTED, SET_ASIDE, RunFolder, read_cards
from xmflow_jax.study.answer_tokens import option_tokens
from xmflow_jax.study.answer_tracking import TrackedWords, answer_lens, lens_rows, tracked_words
from xmflow_jax.study.options import CORRECT, EVERY, WRONG
from xmflow_jax.study.pending import pending_batches, skipped_row, timed
from xmflow_jax.study.plan import TaskStudy
from xmflow_jax.study.rows import first_token_answers, question_rows, whole_answers
from xmflow_jax.study.scoring import score_answer
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


def answer_task(study: TaskStudy, setting: Setting, run: RunFolder, advance: Callable[[int], None]) -> None:
    """Answer the questions that are not in the run folder yet; every batch lands as one part.

    Args:
        advance: told how many more questions are done.
    """
    text = setting.model.config.text
    built = build_study([row.knockout for row in study.rows], text.layers, text.heads)
    drawn = {one for own in built.actions for one in own if isinstance(one, DrawnEdges)}
    tokenizer = setting.processing.tokenizer
    # Counted from the folder: batches come in the order of an undisturbed run, so a resumed run makes the same cards.
    cards_left = 0 if setting.card is None else setting.cards - int((read_cards(run.path)["task"] == study.task).sum())

    def text_of(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def prepare(question: Question) -> PreparedQuestion:
        prompt = prepare_question(question, setting.processing, setting.template)
        check_length(prompt, setting)
        return prompt

    batching = (setting.processing, setting.template, setting.batch_size)
    for places in timed(pending_batches(study.questions, prepare, *batching, run, advance), setting.waited):
        prompts = [place.prompt for place in places]
        keys = [question_key(prompt.question.task, prompt.question.question_id) for prompt in prompts]
        answers: list[str] = []
        base_tokens: list[Int[np.ndarray, " step"]] = []
        finite = np.ones(len(prompts), bool)

        def select(
            tokens: Int[np.ndarray, "batch step"],
            logits: Float[np.ndarray, "batch vocabulary"],
            prompts: list[PreparedQuestion] = prompts,
            answers: list[str] = answers,
            base_tokens: list[Int[np.ndarray, " step"]] = base_tokens,
            finite: Bool[np.ndarray, " batch"] = finite,
        ) -> Bool[np.ndarray, " batch"]:
            base_tokens.extend(tokens)
            answers.extend(text_of(row) for row in tokens)
            finite &= np.isfinite(logits).all(axis=-1)
            asked = [prompt.question for prompt in prompts]
            scores = [score_answer(one, answer, one.scorer) for one, answer in zip(asked, answers, strict=True)]
            right = np.array([score == 1.0 for score in scores])
            return finite & {CORRECT: right, WRONG: ~right, EVERY: np.ones_like(right)}[setting.select]

        def options(
            tokens: Int[np.ndarray, "batch step"],
            prompts: list[PreparedQuestion] = prompts,
            answers: list[str] = answers,
        ) -> Int[np.ndarray, "batch 2"]:
            given = zip(prompts, answers, tokens[:, 0].tolist(), strict=True)
            return np.array([option_tokens(own.question, answer, first, tokenizer) for own, answer, first in given])

        answered = answer_batch(
            setting.model.graphdef,
            setting.model.state,
            prompts,
            built,
            end_tokens(setting.processing),
            setting.answer_length,
            select,
            setting.engine,
            setting.batch_size,
            setting.whole_answers,
            keys,
            options,
        )
        followed: list[TrackedWords] = []
        if (states := answered.states) is not None:
            given = zip(prompts, answers, base_tokens, strict=True)
            followed = [tracked_words(own.question, answer, int(first[0]), tokenizer) for own, answer, first in given]
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
                own = question_rows(
                    question, answer, study.rows, impossible, measured, place, found, overlaps, answered.margins
                )
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


def check_length(prompt: PreparedQuestion, setting: Setting) -> None:
    """Learned positions end somewhere; an index beyond them would silently read the last one.

    Raises:
        QuestionSetAside: prompt and answer are longer than the model has positions for.
    """
    text = setting.model.config.text
    longest = len(prompt.token_ids) + setting.answer_length - 1
    if isinstance(text, Gpt2Config) and longest > text.positions:
        raise QuestionSetAside(
            f"its prompt of {len(prompt.token_ids)} tokens and an answer of up to {setting.answer_length} exceed the "
            f"model's {text.positions} positions"
        )


def end_tokens(processing: Processing) -> tuple[int, ...]:
    """Ids that end an answer."""
    return (int(processing.tokenizer.eos_token_id),)
