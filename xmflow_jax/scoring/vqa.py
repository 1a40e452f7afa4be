"""VQA accuracy as VQA v2 and OK-VQA score themselves (`vqaEval.py` of GT-Vision-Lab/VQA), with all its quirks.

Ten people answered each question. An answer's accuracy is the mean over the ten of `min(1, matches among the other
nine / 3)`. Texts are normalised, but only where the ten answers are not all the same.
"""

import re
from collections.abc import Sequence
from typing import Final

# Each becomes a space, or nothing where the text has one of these next to a space or a digit,digit anywhere.
_MARKS: Final = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT: Final = re.compile(r"\d,\d")
_DIGIT_COMMAS_DIGIT: Final = re.compile(r"\d,+\d")
# The official pattern means to spare decimal points on both sides and, by a typo, looks at what follows alone. Its
# call passes a flag where the number of replacements stands, which is therefore 32.
_STOP: Final = re.compile(r"\.(?!\d)")
_MOST_STOPS: Final = 32

_NUMBERS: Final = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES: Final = frozenset(("a", "an", "the"))

_CONTRACTIONS: Final = """
'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# A word that lacks exactly one of its apostrophes, and the one entry of the official table that takes one away.
_RESTORED: Final = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}


def clean(text: str) -> str:
    """What both sides go through in any case: line ends and tabs become spaces, outer spaces go."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalize_vqa(text: str) -> str:
    """The whole normalisation: `clean`, punctuation, number words to digits, no articles, apostrophes put back."""
    return _normalize(text, _DIGIT_COMMA_DIGIT)


def normalize_lmms_eval(text: str) -> str:
    """What lmms-eval's processor (`vqa_eval_metric.py`, from MMF's for EvalAI) makes of an answer.

    Commas and question marks go first and each "'s" becomes a word of its own, so that "what's" and "whats" differ.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return _normalize(text, _DIGIT_COMMAS_DIGIT)


def _normalize(text: str, number: re.Pattern[str]) -> str:
    """Args: number: has every mark deleted where it is found, rather than made a space."""
    text = clean(text)
    joined = number.search(text) is not None
    spaced = text
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if joined or beside_space else " ")
    words = (_NUMBERS.get(word, word) for word in _STOP.sub("", spaced, count=_MOST_STOPS).lower().split())
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """Accuracy of an answer, 0 to 1: with ten human answers 0, 0.3, 0.6, 0.9 or 1 for 0, 1, 2, 3 or more matches.

    Raises:
        ValueError: no human answers.
    """
    return _normalized_where_humans_differ(answer, human_answers, _DIGIT_COMMA_DIGIT)


def vqa_accuracy_always_normalized(answer: str, human_answers: Sequence[str]) -> float:
    """As `vqa_accuracy`, but texts are normalised even where all human answers are the same.

    Raises:
        ValueError: no human answers.
    """
    return _leave_one_out(normalize_vqa(answer), [normalize_vqa(one) for one in human_answers])


def vqa_accuracy_lmms_eval(answer: str, human_answers: Sequence[str]) -> float:
    """As lmms-eval scores VQA v2: its own normalisation of the answer in any case, then much as `vqa_accuracy`.

    Raises:
        ValueError: no human answers.
    """
    return _normalized_where_humans_differ(normalize_lmms_eval(answer), human_answers, _DIGIT_COMMAS_DIGIT)


def okvqa_accuracy_lmms_eval(answer: str, human_answers: Sequence[str]) -> float:
    """As lmms-eval scores OK-VQA: its own normalisation of both sides in any case.

    Raises:
        ValueError: no human answers.
    """
    return _leave_one_out(normalize_lmms_eval(answer), [normalize_lmms_eval(one) for one in human_answers])


def _normalized_where_humans_differ(answer: str, human_answers: Sequence[str], number: re.Pattern[str]) -> float:
    answer, humans = clean(answer), [clean(one) for one in human_answers]
    if len(set(humans)) > 1:
        answer, humans = _normalize(answer, number), [_normalize(one, number) for one in humans]
    return _leave_one_out(answer, humans)


def _leave_one_out(answer: str, humans: Sequence[str]) -> float:
    if not humans:
        raise ValueError("VQA accuracy needs the human answers; there are none")
    matches = [human == answer for human in humans]
    total = sum(matches)
    return sum(min(1.0, (total - match) / 3) for match in matches) / len(humans)
