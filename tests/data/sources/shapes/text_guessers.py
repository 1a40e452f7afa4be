"""What a reader of the text alone can guess: question forms, and guessers that learn from other questions' answers."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np

from tests.data.sources.shapes.answerer import ATTRIBUTES, expressions, options
from xmflow_jax.data.sources.shapes.questions import Asked

MIRROR = {"left": "right", "right": "left", "above": "below", "below": "above"}


def label_of(asked: Asked) -> str:
    """What there is to guess: which of the options it is, where the question offers any, else the answer."""
    offered = options(asked.text)
    return f"option {offered.index(asked.answer)}" if offered else asked.answer


@cache
def form_of(text: str) -> str:
    """The text with colours and shapes numbered by first appearance, since they are interchangeable.

    Equal values stay equal. Sizes, textures and sides offered as options are numbered as well.
    """
    seen: dict[str, dict[str, int]] = defaultdict(dict)
    offered = options(text)

    def numbered(match: re.Match[str]) -> str:
        word = match[0]
        for attribute in ("color", "shape"):
            if word in ATTRIBUTES[attribute]:
                return f"{attribute}{seen[attribute].setdefault(word, len(seen[attribute]))}"
        return "option" if word in offered else word

    return re.sub(r"\w+", numbered, text)


def canonical(asked: Asked) -> tuple[tuple[str, ...], str]:
    """(what the exact question asks, its answer), the same for questions that differ in the order of words alone."""
    things, offered = expressions(asked.text), sorted(options(asked.text))
    words = (asked.task, *offered, *sorted(things))
    if asked.task == "ChooseRel":
        return words, asked.answer if things == sorted(things) else MIRROR[asked.answer]
    return (*words, asked.text) if asked.task == "QueryAttr" else words, asked.answer


def majority_accuracy(train: Sequence[Asked], test: Sequence[Asked]) -> float:
    """Accuracy of the commonest answer to the same question in `train`."""
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for asked in train:
        key, answer = canonical(asked)
        counts[key][answer] += 1
    overall = Counter(canonical(asked)[1] for asked in train).most_common(1)[0][0]
    right = 0
    for asked in test:
        key, answer = canonical(asked)
        guess = counts[key].most_common(1)[0][0] if key in counts else overall
        right += guess == answer
    return right / len(test)


@cache
def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def naive_bayes_accuracy(train: Sequence[Asked], test: Sequence[Asked]) -> float:
    """Accuracy of a naive Bayes classifier of the words at all positions and at all pairs of positions.

    The pairs tell it, among other things, which words are equal.
    """
    words: dict[str, int] = {"": 0}
    labels = {label: number for number, label in enumerate(sorted({label_of(asked) for asked in train}))}
    split = [[_words(asked.text) for asked in part] for part in (train, test)]
    length = max(len(text) for part in split for text in part)
    coded = [
        np.array([[words.setdefault(word, len(words)) for word in text + [""] * (length - len(text))] for text in part])
        for part in split
    ]
    known = np.array([labels[label_of(asked)] for asked in train])
    score = np.tile(np.log(np.bincount(known, minlength=len(labels))), (len(test), 1))
    features = [(position,) for position in range(length)] + list(combinations(range(length), 2))
    for positions in features:
        learned, asked_about = (
            np.ravel_multi_index(tuple(part[:, positions].T), (len(words),) * len(positions)) for part in coded
        )
        codes, first = np.unique(learned, return_inverse=True)
        counts = np.bincount(first * len(labels) + known, minlength=len(codes) * len(labels)) + 1.0
        table = np.log(counts.reshape(len(codes), -1))
        table -= np.log(np.bincount(known, minlength=len(labels)) + len(codes))
        place = np.minimum(np.searchsorted(codes, asked_about), len(codes) - 1)
        score += np.where((codes[place] == asked_about)[:, None], table[place], 0)
    guesses = score.argmax(1)
    return float(
        np.mean([labels.get(label_of(asked), -1) == guess for asked, guess in zip(test, guesses, strict=True)])
    )
