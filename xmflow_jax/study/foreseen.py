"""What can be told of questions before any work: whose image is missing, whose prompt cannot be used, whose gold answer
no answer can match. Where nothing is left that can be used, the command ends there.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question, tokens_without_image
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import DataError, QuestionSetAside
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.scoring.answers import can_match, gold_answers
from xmflow_jax.scoring.scorers import scorer_named
from xmflow_jax.study.estimate import count
from xmflow_jax.study.setting import check_tokens

# Most questions whose prompts are looked at, spread over all: a benchmark's would take minutes.
LOOKED_AT: Final = 5000

# `(task, question_id)`.
Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a question is put to a model with, as far as is known before its weights.

    Attributes:
        processing, template, anatomy: of the model and its prompt.
        answer_length: most tokens of an answer.
    """

    processing: Processing
    template: Template
    anatomy: Anatomy
    answer_length: int

    def check(self, question: Question) -> None:
        """Look at a question's prompt as far as its image does not decide it.

        Raises:
            QuestionSetAside: the prompt cannot be used.
        """
        tokens = tokens_without_image(question, self.processing, self.template)
        if tokens is not None:
            check_tokens(tokens, self.processing, self.anatomy, self.answer_length)

    def check_prompt(self, prompt: PreparedQuestion) -> None:
        """Look at a prompt's tokens, those of its image among them.

        Raises:
            QuestionSetAside: the prompt cannot be used.
        """
        check_tokens(prompt.token_ids, self.processing, self.anatomy, self.answer_length)


@dataclass(frozen=True)
class Foreseen:
    """What is known of the questions left, before any work.

    Attributes:
        questions: how many are left.
        missing: those whose image lies nowhere.
        aside: others whose prompt cannot be used, and why.
        looked_at: of how many questions the prompts were looked at.
        unmatched: those whose gold answer no answer can match; they count all the same.
    """

    questions: int
    missing: tuple[Question, ...]
    aside: tuple[tuple[Question, str], ...]
    looked_at: int
    unmatched: tuple[Question, ...]

    @property
    def unusable(self) -> set[Key]:
        """The questions that will be set aside."""
        return {(one.task, one.question_id) for one in (*self.missing, *(one for one, _ in self.aside))}

    def words(self) -> list[str]:
        """Parts of the line that says what will run, for people; none where all is well."""
        told = []
        if self.missing:
            images = len({one.image_path for one in self.missing})
            first = self.missing[0].image_path
            told.append(
                f"{count(images, 'image')} missing ({count(len(self.missing), 'question')}; the first is {first})"
            )
        if self.aside:
            some = "" if self.looked_at == self.questions else f" of {self.looked_at} looked at"
            told.append(f"{count(len(self.aside), 'prompt')}{some} set aside (the first: {self.aside[0][1]})")
        if self.unmatched:
            told.append(f"{count(len(self.unmatched), 'gold answer')} that cannot match")
        return told


def foresee(
    questions: Sequence[Question], done: Collection[Key], reading: Reading, scorer_of: Callable[[Question], str]
) -> Foreseen:
    """Look at the questions that are left.

    Args:
        done: `(task, question_id)` of those that need no more work.
        scorer_of: the name of the rule that a question's answer is scored by.

    Raises:
        OptionError: there is no rule of that name.
    """
    left = [one for one in questions if (one.task, one.question_id) not in done]
    missing = missing_images(left)
    gone = {(one.task, one.question_id) for one in missing}
    some = left[:: max(1, -(-len(left) // LOOKED_AT))]
    aside = []
    for one in some:
        try:
            reading.check(one)
        except QuestionSetAside as reason:
            if (one.task, one.question_id) not in gone:
                aside.append((one, str(reason)))
    unmatched = tuple(one for one in left if not can_match(one, scorer_of(one)))
    return Foreseen(len(left), tuple(missing), tuple(aside), len(some), unmatched)


def missing_images(questions: Sequence[Question]) -> list[Question]:
    """The questions whose image's file is not there. Folders are listed once, as when images are looked for."""
    listed: dict[Path, frozenset[str]] = {}
    for folder in {one.image_path.parent for one in questions}:
        names: frozenset[str] = frozenset()
        with suppress(OSError, ValueError), os.scandir(folder) as entries:
            names = frozenset(entry.name for entry in entries)
        listed[folder] = names
    return [one for one in questions if one.image_path.name not in listed[one.image_path.parent]]


def check_images(questions: Sequence[Question]) -> None:
    """Refuse questions of which not one has an image.

    Raises:
        DataError: that is so.
    """
    missing = missing_images(questions)
    if questions and len(missing) == len(questions):
        raise DataError(
            f"no image of {count(len(questions), 'question')} is there; the first looked for is {missing[0].image_path}"
        )


def check_usable(questions: Sequence[Question], reading: Reading) -> None:
    """Refuse questions of which not one can be used; images are read up to the first that can.

    Raises:
        DataError: that is so.
    """
    reasons: Counter[str] = Counter()
    for one in questions:
        try:
            reading.check_prompt(prepare_question(one, reading.processing, reading.template))
        except QuestionSetAside as reason:
            reasons[str(reason)] += 1
        else:
            return
    if reasons:
        raise DataError(f"no question of {len(questions)} can be used; the first: {next(iter(reasons))}")


def check_gold(questions: Sequence[Question], scorer_of: Callable[[Question], str]) -> None:
    """Refuse questions of which not one has a gold answer that can be matched, where only matched ones count.

    Raises:
        DataError: that is so.
    """
    if questions and not any(can_match(one, scorer_of(one)) for one in questions):
        first = questions[0]
        raise DataError(
            f"no question of {len(questions)} can be answered rightly, and --select correct takes no others: "
            f"{_why_unmatched(first, scorer_of(first))}"
        )


def unmatched_lines(
    unmatched: Sequence[Question],
    questions: Sequence[Question],
    file_of: Callable[[Question], str],
    scorer_of: Callable[[Question], str],
) -> list[str]:
    """A line for people about each file with gold answers that no answer can match."""
    totals = Counter(map(file_of, questions))
    by_file: dict[str, list[Question]] = {}
    for one in unmatched:
        by_file.setdefault(file_of(one), []).append(one)
    return [
        f"{file}: no answer can match {len(own)} of {count(totals[file], 'gold answer')}: "
        f"{_why_unmatched(own[0], scorer_of(own[0]))}"
        for file, own in by_file.items()
    ]


def _why_unmatched(question: Question, scorer: str) -> str:
    gold = next(iter(gold_answers(question)), "")
    return (
        f"the rule {scorer!r} gives even the gold answer {gold!r} of question {question.question_id} no point, since "
        f"{scorer_named(scorer).quirk}"
    )
