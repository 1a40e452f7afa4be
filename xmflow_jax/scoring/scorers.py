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
    """

    name: str
    score: Callable[[str, Sequence[str]], float]


def _first(rule: Callable[[str, str], float]) -> Callable[[str, Sequence[str]], float]:
    return lambda answer, golds: rule(answer, golds[0])


SCORERS: Final[Mapping[str, Scorer]] = {
    scorer.name: scorer
    for scorer in (
        Scorer("exact", _first(exact_match)),
        Scorer("vqa", vqa_accuracy),
        Scorer("vqa-always-normalized", vqa_accuracy_always_normalized),
        Scorer("vqa-lmms-eval", vqa_accuracy_lmms_eval),
        Scorer("okvqa-lmms-eval", okvqa_accuracy_lmms_eval),
        Scorer("gqa", _first(gqa_match)),
        Scorer("gqa-llava", _first(gqa_match_llava)),
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
