"""VQA's rules once more, from their description alone: character by character, and in fractions.

Also texts to try them on.
"""

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import pairwise

Normal = Callable[[str], str]

_WORDS = (
    "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've "
    "must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've "
    "somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've "
    "something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've wasn't "
    "we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll "
    "who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've "
    "you'll you're you've"
)
_NUMBERS = "none zero one two three four five six seven eight nine ten"
WORDS, NUMBERS = _WORDS.split(), _NUMBERS.split()


@cache
def restore(word: str) -> str:
    if word == "somebody'd":
        return "somebodyd"
    for full in WORDS:
        if full.replace("'", "") == word.replace("'", "") and full.count("'") == word.count("'") + 1:
            # The apostrophes that are there must stand where the full word has them.
            rest = iter(full)
            if all(letter in rest for letter in word):
                return full
    return word


def holds_a_number(text: str, any_commas: bool) -> bool:
    """Two digits with a comma between them, or with any number of commas."""
    parts = [part for part in text.split(",") if part or not any_commas]
    return any(one[-1:].isdecimal() and other[:1].isdecimal() for one, other in pairwise(parts))


def punctuation(text: str, any_commas: bool) -> str:
    everywhere = holds_a_number(text, any_commas)
    pairs = set(pairwise(text))
    spaced = ""
    for letter in text:
        if letter not in ';/[]"{}()=+\\_-><@`,?!':
            spaced += letter
        elif not everywhere and (letter, " ") not in pairs and (" ", letter) not in pairs:
            spaced += " "
    kept, stops = "", 0
    for letter, following in pairwise([*spaced, ""]):
        if letter == "." and not following.isdecimal() and stops < 32:
            stops += 1
        else:
            kept += letter
    return kept


def trimmed(text: str) -> str:
    return "".join(" " if letter in "\n\t" else letter for letter in text).strip()


def normal(text: str, any_commas: bool = False) -> str:
    out = []
    for word in punctuation(trimmed(text), any_commas).lower().split():
        digits = str(max(0, NUMBERS.index(word) - 1)) if word in NUMBERS else word
        if digits not in ("a", "an", "the"):
            out.append(restore(digits))
    return " ".join(out)


def normal_with_any_commas(text: str) -> str:
    return normal(text, any_commas=True)


def normal_of_lmms_eval(text: str) -> str:
    letters = "".join(letter for letter in text.lower() if letter not in ",?")
    return normal_with_any_commas(" 's".join(letters.split("'s")))


def leave_one_out(answer: str, humans: list[str]) -> Fraction:
    total = Fraction(0)
    for left_out in range(len(humans)):
        others = humans[:left_out] + humans[left_out + 1 :]
        total += min(Fraction(1), Fraction(others.count(answer), 3))
    return total / len(humans)


def accuracy(answer: str, humans: list[str], how: Normal = normal) -> Fraction:
    """Texts are normalised only where people differ."""
    answer, humans = trimmed(answer), [trimmed(one) for one in humans]
    if any(one != humans[0] for one in humans):
        answer, humans = how(answer), [how(one) for one in humans]
    return leave_one_out(answer, humans)


PIECES = [
    *WORDS, *(word.replace("'", "", 1) for word in WORDS), *(word[::-1].replace("'", "", 1)[::-1] for word in WORDS),
    *NUMBERS, "lets", "shes", "somebody'd", "somebodyd", "a", "an", "The", "None", "Ten", "cat", "Cat.", "1,000",
    "1,,000", "3.5", ".", "..", "." * 34, "2", ",", "U.S.", "t-shirt", *';/[]"{}()=+\\_-><@`,?!:', "(x)", "@b", "?c",
    "\u0663", "\u00b2", "\u00bd", "\t", "\n", "\r", "\v", "\x1c", "\x85", "\xa0", "\u2009", "\u200b", "\x00", "'", "'s",
    "\u2019", "\u00e9", "e\u0301", "\u0130", "\u00df", "\ufb01", "\U0001f600", "\ud83d", "\uff0c", "\uff11",
]  # fmt: skip


def answer_sets(count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """(answer, ten human answers), of which often all are the same, and often some are what the answer is."""
    draw = random.Random(seed)
    for _ in range(count):
        texts = [
            draw.choice(["", " ", "-"]).join(draw.choice(PIECES) for _ in range(draw.randint(1, 3)))
            for _ in range(draw.randint(1, 4))
        ]
        answer = draw.choice([*texts, texts[0].upper(), texts[0] + ".", f"the {texts[0]}"])
        yield answer, [draw.choice(texts) for _ in range(10)]
