"""GQA's exact match and LLaVA's preparation for it, on answers whose scores the rules tell."""

import pytest

from xmflow_jax.scoring.gqa import gqa_match, gqa_match_llava

# answer, gold answer; by GQA's rule, by LLaVA's
CASES = [
    ("yes", "yes", (1, 1)),
    ("Yes", "yes", (0, 1)),
    ("yes.", "yes", (0, 1)),
    ("Yes..", "yes", (0, 1)),
    ("yes. ", "yes", (0, 0)),  # what follows the stop keeps it
    (" yes", "yes", (0, 0)),
    ("yes!", "yes", (0, 0)),
    ("the dog", "dog", (0, 0)),
    ("Yes", "Yes", (1, 0)),  # the gold answer is left as it is
    ("u.s.", "u.s.", (1, 0)),
    (".", "", (0, 1)),
    ("no", "yes", (0, 0)),
    ("", "", (1, 1)),
]


@pytest.mark.parametrize(("answer", "gold", "expected"), CASES)
def test_matches(answer: str, gold: str, expected: tuple[int, int]) -> None:
    assert (gqa_match(answer, gold), gqa_match_llava(answer, gold)) == expected
