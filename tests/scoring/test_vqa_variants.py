"""The rules that people compare VQA accuracy with: by hand, and against a second implementation from the rules."""

from collections import Counter

import pytest

from tests.scoring import vqa_rules
from xmflow_jax.scoring.vqa import (
    normalize_lmms_eval,
    okvqa_accuracy_lmms_eval,
    vqa_accuracy,
    vqa_accuracy_always_normalized,
    vqa_accuracy_lmms_eval,
)

LMMS_EVAL = {
    "A Cat.": "cat",
    "What's up?": "what 's up",  # VQA's: "what's up"
    "whats up": "what's up",
    "red,blue": "redblue",  # VQA's: "red blue"
    "1,000": "1000",
    "1,000 t-shirts": "1000 t shirts",  # the comma is gone before it is looked for; VQA's: "1000 tshirts"
    "what?yes": "whatyes",
    "black/white": "black white",
    "'ow's'at": "'ow 's'at",
    "dont know": "don't know",
    "three": "3",
    "\tit\nis ": "it is",
}


@pytest.mark.parametrize(("text", "expected"), LMMS_EVAL.items())
def test_lmms_evals_normalisation(text: str, expected: str) -> None:
    assert normalize_lmms_eval(text) == expected
    assert vqa_rules.normal_of_lmms_eval(text) == expected


CASES = [
    # answer, human answers; by VQA's own rule, always normalised, lmms-eval's for VQA v2 and for OK-VQA
    ("Yes", ["yes"] * 10, (0, 1, 1, 1)),
    ("Yes", ["Yes"] * 10, (1, 1, 0, 1)),  # of the two sides, the answer alone is normalised
    ("two", ["two"] * 10, (1, 1, 0, 1)),
    ("two", ["2"] * 10, (0, 1, 1, 1)),
    ("two", ["two"] * 9 + ["2"], (1, 1, 1, 1)),
    ("man's", ["man's"] * 9 + ["man"], (1, 1, 0, 1)),
    ("whats", ["what's"] * 9 + ["that"], (1, 1, 1, 0)),
    ("red,blue", ["red,blue"] * 9 + ["red"], (1, 1, 0, 1)),
    ("red blue", ["red,blue"] * 9 + ["red"], (1, 1, 1, 0)),
    ("1,,0", ["1,,0"] * 9 + ["x"], (1, 1, 1, 1)),
    ("10", ["1,,0"] * 9 + ["x"], (0, 0, 1, 1)),
    ("cat", ["a cat"] * 2 + ["dog"] * 8, (0.6, 0.6, 0.6, 0.6)),
]


@pytest.mark.parametrize(("answer", "humans", "expected"), CASES)
def test_variants_differ_as_they_should(answer: str, humans: list[str], expected: tuple[float, ...]) -> None:
    rules = (vqa_accuracy, vqa_accuracy_always_normalized, vqa_accuracy_lmms_eval, okvqa_accuracy_lmms_eval)
    assert tuple(rule(answer, humans) for rule in rules) == pytest.approx(expected, abs=1e-12)


def test_thousands_of_answer_sets_against_the_second_implementation() -> None:
    seen: Counter[str] = Counter()
    for answer, humans in vqa_rules.answer_sets(2000, seed=12):
        every = [vqa_rules.normal(one) for one in humans]
        processed, all_processed = (
            vqa_rules.normal_of_lmms_eval(answer),
            [vqa_rules.normal_of_lmms_eval(one) for one in humans],
        )
        expected = (
            vqa_rules.leave_one_out(vqa_rules.normal(answer), every),
            vqa_rules.accuracy(processed, humans, vqa_rules.normal_with_any_commas),
            vqa_rules.leave_one_out(processed, all_processed),
        )
        rules = (vqa_accuracy_always_normalized, vqa_accuracy_lmms_eval, okvqa_accuracy_lmms_eval)
        for rule, score in zip(rules, expected, strict=True):
            assert rule(answer, humans) == pytest.approx(float(score), abs=1e-12), (rule, answer, humans)
            seen[rule.__name__] += score != vqa_rules.accuracy(answer, humans)
    # Each is told apart from VQA's own rule, many times.
    assert len(seen) == 3
    assert min(seen.values()) > 20


@pytest.mark.parametrize("rule", [vqa_accuracy_always_normalized, vqa_accuracy_lmms_eval, okvqa_accuracy_lmms_eval])
def test_no_human_answers_are_an_error(rule: object) -> None:
    assert callable(rule)
    with pytest.raises(ValueError, match="none"):
        rule("cat", [])
