"""VQA accuracy against the official code's vectors, each quirk by hand, and a second implementation from the rules."""

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from xmflow_jax.metrics.vqa import normalize_vqa, vqa_accuracy, vqa_accuracy_always_normalized

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


WORDS = (
    "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've "
    "must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've "
    "somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've "
    "something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've wasn't "
    "we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll "
    "who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've "
    "you'll you're you've"
)
NUMBERS = "none zero one two three four five six seven eight nine ten"


class Rules:
    """The rules once more, from their description alone, character by character and in fractions."""

    words = WORDS.split()

    @classmethod
    def restore(cls, word: str) -> str:
        if word == "somebody'd":
            return "somebodyd"
        for full in cls.words:
            if full.replace("'", "") == word.replace("'", "") and full.count("'") == word.count("'") + 1:
                # The apostrophes that are there must stand where the full word has them.
                rest = iter(full)
                if all(letter in rest for letter in word):
                    return full
        return word

    @staticmethod
    def punctuation(text: str) -> str:
        pairs = list(pairwise(text))
        triples = list(zip(text, text[1:], text[2:], strict=False))
        everywhere = any(one.isdecimal() and comma == "," and two.isdecimal() for one, comma, two in triples)
        out, stops = [], 0
        for letter in text:
            if letter in ';/[]"{}()=+\\_-><@`,?!':
                gone = everywhere or (letter, " ") in pairs or (" ", letter) in pairs
                out.append("" if gone else " ")
            else:
                out.append(letter)
        kept = []
        spaced = "".join(out)
        for place, letter in enumerate(spaced):
            following = spaced[place + 1 : place + 2]
            if letter == "." and not following.isdecimal() and stops < 32:
                stops += 1
                continue
            kept.append(letter)
        return "".join(kept)

    @classmethod
    def normal(cls, text: str) -> str:
        numbers = NUMBERS.split()
        out = []
        for word in cls.punctuation(cls.trimmed(text)).lower().split():
            digits = str(max(0, numbers.index(word) - 1)) if word in numbers else word
            if digits not in ("a", "an", "the"):
                out.append(cls.restore(digits))
        return " ".join(out)

    @staticmethod
    def trimmed(text: str) -> str:
        return "".join(" " if letter in "\n\t" else letter for letter in text).strip()

    @classmethod
    def accuracy(cls, answer: str, humans: list[str]) -> Fraction:
        answer, humans = cls.trimmed(answer), [cls.trimmed(one) for one in humans]
        if any(one != humans[0] for one in humans):
            answer, humans = cls.normal(answer), [cls.normal(one) for one in humans]
        total = Fraction(0)
        for left_out in range(len(humans)):
            others = humans[:left_out] + humans[left_out + 1 :]
            total += min(Fraction(1), Fraction(others.count(answer), 3))
        return total / len(humans)


def words_to_draw() -> list[str]:
    return [
        *Rules.words, *(word.replace("'", "", 1) for word in Rules.words), "lets", "shes", "somebody'd", "somebodyd",
        "a", "an", "The", "none", "Ten", "one", "cat", "Cat.", "1,000", "3.5", ".", "..", "2", ",", "U.S.", "t-shirt",
        "/", "(x)", "?", "@b", "é", "\u0663", "\u00b2", "\t", "\n", "'", '"',
    ]  # fmt: skip


def test_thousands_of_answer_sets_against_the_second_implementation() -> None:
    draw = random.Random(11)
    pieces = words_to_draw()
    scores = set()
    for _ in range(4000):
        texts = [
            draw.choice(["", " ", "-"]).join(draw.choice(pieces) for _ in range(draw.randint(1, 3)))
            for _ in range(draw.randint(1, 4))
        ]
        humans = [draw.choice(texts) for _ in range(10)]
        answer = draw.choice([*texts, texts[0].upper(), texts[0] + ".", f"the {texts[0]}"])
        for text in (answer, *humans):
            assert normalize_vqa(text) == Rules.normal(text), text
        score = Rules.accuracy(answer, humans)
        assert vqa_accuracy(answer, humans) == pytest.approx(float(score), abs=1e-12), (answer, humans)
        scores.add(score)
    assert scores == {Fraction(0), Fraction(3, 10), Fraction(6, 10), Fraction(9, 10), Fraction(1)}
