"""VQA accuracy against the official code's vectors, each quirk by hand, and a second implementation from the rules."""

from fractions import Fraction

import pytest

from tests.scoring import vqa_rules
from xmflow_jax.scoring.vqa import normalize_vqa, vqa_accuracy, vqa_accuracy_always_normalized

# What the official code gives (facts of the project; GT-Vision-Lab/VQA).
VECTORS = {
    "A cat.": "cat",
    "1,000": "1000",
    "It's 3.5 m.": "it's 3.5 m",
    "dont know": "don't know",
    "none": "0",
    "black/white": "black white",
    "t-shirt": "t shirt",
    "U.S.A.": "usa",
    "2,3 and 4": "23 and 4",
    "the a": "",
}

QUIRKS = {
    "lets go": "lets go",
    "shes here": "shes here",
    "somebody'd": "somebodyd",
    "somebodyd've": "somebody'd've",
    "couldnt've": "couldn't've",
    "couldn'tve": "couldn't've",
    "couldntve": "couldntve",  # two apostrophes are missing
    "'ows'at": "'ow's'at",
    "ow's'at": "'ow's'at",
    "oclock": "o'clock",
    "Yall": "y'all",
    "one two ten eleven": "1 2 10 eleven",
    "Zero": "0",
    "what? yes": "what yes",  # next to a space: deleted
    "what?yes": "what yes",  # else a space
    "a-b c - d": "ab c d",  # one mark beside a space has all marks of its kind deleted
    "a-b 1,0": "ab 10",  # digit,digit has every mark deleted
    "1, 2-3": "1 2 3",
    ".5": ".5",
    "3.": "3",
    "v1.a": "v1a",
    "a\tcat\n": "cat",
    "the man": "man",
    "another": "another",
    "x\\y_z@w`v": "x y z w v",
    "(red)": "red",
    "\u0663,\u0664": "\u0663\u0664",  # digits of any script
    "." * 40: "." * 8,  # a flag stands where the official call has the number of replacements: 32
}


@pytest.mark.parametrize(("text", "expected"), [*VECTORS.items(), *QUIRKS.items()])
def test_normalisation(text: str, expected: str) -> None:
    assert normalize_vqa(text) == expected


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)])
def test_ten_people_and_their_matches(matches: int, expected: float) -> None:
    humans = ["cat"] * matches + [f"dog{number}" for number in range(10 - matches)]
    assert vqa_accuracy("cat", humans) == pytest.approx(expected, abs=1e-12)


def test_normalised_only_where_people_differ() -> None:
    assert vqa_accuracy("Yes", ["yes"] * 10) == 0.0
    assert vqa_accuracy("Yes", ["yes"] * 9 + ["no"]) == 1.0
    assert vqa_accuracy(" yes\n", ["yes\t"] * 10) == 1.0
    assert vqa_accuracy_always_normalized("Yes", ["yes"] * 10) == 1.0
    assert vqa_accuracy_always_normalized("Yes", ["yes"] * 9 + ["no"]) == 1.0
    # Different as written, the same once normalised.
    assert vqa_accuracy("The cat.", ["cat"] * 9 + ["a cat"]) == 1.0


def test_no_human_answers_are_an_error() -> None:
    with pytest.raises(ValueError, match="none"):
        vqa_accuracy("cat", [])


@pytest.mark.parametrize("word", vqa_rules.WORDS)
def test_every_apostrophe_that_a_word_has_lost_alone_is_put_back(word: str) -> None:
    assert normalize_vqa(word) == word
    for place, letter in enumerate(word):
        if letter == "'":
            assert normalize_vqa(word[:place] + word[place + 1 :]) == word
    if word.count("'") > 1:
        bare = word.replace("'", "")
        assert normalize_vqa(bare) == bare


def test_thousands_of_answer_sets_against_the_second_implementation() -> None:
    scores = set()
    for answer, humans in vqa_rules.answer_sets(4000, seed=11):
        for text in (answer, *set(humans)):
            assert normalize_vqa(text) == vqa_rules.normal(text), text
        score = vqa_rules.accuracy(answer, humans)
        assert vqa_accuracy(answer, humans) == pytest.approx(float(score), abs=1e-12), (answer, humans)
        scores.add(score)
    assert scores == {Fraction(0), Fraction(3, 10), Fraction(6, 10), Fraction(9, 10), Fraction(1)}
