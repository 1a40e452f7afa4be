"""Every rule under its own name, and what sets them apart."""

import pytest

from xmflow_jax.errors import OptionError
from xmflow_jax.scoring.scorers import SCORERS, scorer_named

# (answer, gold answers) and what each rule makes of it, in the order below.
NAMES = ("exact", "vqa", "vqa-always-normalized", "vqa-lmms-eval", "okvqa-lmms-eval", "gqa", "gqa-llava")
CASES = [
    ("red", ["red"] * 10, (1, 1, 1, 1, 1, 1, 1)),
    ("Red", ["red"] * 10, (1, 0, 1, 1, 1, 0, 1)),
    ("red.", ["red"] * 10, (0, 0, 1, 1, 1, 0, 1)),
    ("the red", ["red"] * 9 + ["blue"], (0, 1, 1, 1, 1, 0, 0)),
    ("blue", ["red"] * 9 + ["blue"], (0, 0.3, 0.3, 0.3, 0.3, 0, 0)),
]


@pytest.mark.parametrize(("answer", "golds", "expected"), CASES)
def test_rules_differ_as_they_should(answer: str, golds: list[str], expected: tuple[float, ...]) -> None:
    scores = tuple(SCORERS[name].score(answer, golds) for name in NAMES)
    assert scores == pytest.approx(expected, abs=1e-12)


def test_names_are_those_of_the_rules() -> None:
    assert tuple(SCORERS) == NAMES
    assert all(scorer.name == name for name, scorer in SCORERS.items())
    assert scorer_named("vqa") is SCORERS["vqa"]
    with pytest.raises(OptionError, match="unknown scorer 'bleu'; the scorers are: exact, vqa"):
        scorer_named("bleu")
