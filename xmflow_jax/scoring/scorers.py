"""The rules that an answer can be scored by. A rule's name is recorded with every score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from xmflow_jax.errors import OptionError
from xmflow_jax.scoring.exact import exact_match
from xmflow_jax.scoring.gqa import gqa_match, gqa_match_llava
from xmflow_jax.scoring.vqa import (
    okvqa_accuracy_lmms_eval,
    vqa_accuracy,
    vqa_accuracy_always_normalized,
    vqa_accuracy_lmms_eval,
)


@dataclass(frozen=True)
class Scorer:
    """A named rule.

    Attributes:
        score: of (answer, gold answers), 0 to 1. Rules that know one gold answer read the first.
        quirk: why a gold answer may have no match, to be read behind "since".
    """

    name: str
    score: Callable[[str, Sequence[str]], float]
    quirk: str


def _first(rule: Callable[[str, str], float]) -> Callable[[str, Sequence[str]], float]:
    return lambda answer, golds: rule(answer, golds[0])


_LEAVES_ONE_OUT: Final = "it compares an answer with those of all people but one, so that it takes two or more"

SCORERS: Final[Mapping[str, Scorer]] = {
    scorer.name: scorer
    for scorer in (
        Scorer("exact", _first(exact_match), "it lower-cases the model's answer alone; write gold answers so: 'red'"),
        Scorer("vqa", vqa_accuracy, _LEAVES_ONE_OUT),
        Scorer("vqa-always-normalized", vqa_accuracy_always_normalized, _LEAVES_ONE_OUT),
        Scorer(
            "vqa-lmms-eval",
            vqa_accuracy_lmms_eval,
            f"it normalises the model's answer alone where all people agree, and {_LEAVES_ONE_OUT}",
        ),
        Scorer("okvqa-lmms-eval", okvqa_accuracy_lmms_eval, _LEAVES_ONE_OUT),
        Scorer("gqa", _first(gqa_match), "answers have no space around them; write gold answers so: 'red'"),
        Scorer(
            "gqa-llava",
            _first(gqa_match_llava),
            "it lower-cases the model's answer alone and cuts its last stops; write gold answers so: 'red'",
        ),
    )
}


def scorer_named(name: str) -> Scorer:
    """The rule of this name.

    Raises:
        OptionError: there is none.
    """
    if name not in SCORERS:
        raise OptionError(f"unknown scorer {name!r}; the scorers are: {', '.join(SCORERS)}")
    return SCORERS[name]
