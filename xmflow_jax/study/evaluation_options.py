"""An evaluation's options: those of a sweep that are not about knockouts, and a few of its own."""

from dataclasses import dataclass
from typing import Any, Final

from xmflow_jax.errors import OptionError
from xmflow_jax.scoring.scorers import scorer_named
from xmflow_jax.study.options import SweepOptions, check_options, sweep_options
from xmflow_jax.study.shown_images import BLANK, OWN, SHUFFLED

# The fields of `SweepOptions` that mean something without knockouts.
SHARED: Final = (
    *("model", "vouch", "data", "images", "annotations", "scene_graphs", "split", "data_dir", "questions", "template"),
    *("samples", "dtype", "batch_size", "mesh", "answer_length", "seed", "out"),
)


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation is asked to do.

    Attributes:
        shared: the options about model, data, prompt and run; fields about knockouts have their defaults.
        scorer: the rule for every answer, a name in `xmflow_jax.scoring.scorers`; None: each question's own.
        blank_images: show the image processor's mean colour instead of the images.
        shuffle_images: show each question another question's image.
    """

    shared: SweepOptions
    scorer: str | None = None
    blank_images: bool = False
    shuffle_images: bool = False

    @property
    def shown(self) -> str:
        """OWN, BLANK or SHUFFLED."""
        return BLANK if self.blank_images else SHUFFLED if self.shuffle_images else OWN


def evaluation_options(
    scorer: str | None = None, blank_images: bool = False, shuffle_images: bool = False, **shared: Any
) -> EvaluationOptions:
    """The options as keywords.

    Raises:
        TypeError: there is no such option.
        OptionError: a value is not one of its choices, or two options exclude each other.
    """
    if unknown := sorted(shared.keys() - set(SHARED)):
        raise TypeError(f"an evaluation has no option {unknown[0]!r}; expected {', '.join(SHARED)}")
    options = EvaluationOptions(sweep_options(**shared), scorer, blank_images, shuffle_images)
    check_options(options.shared)
    if scorer is not None:
        scorer_named(scorer)
    if blank_images and shuffle_images:
        raise OptionError("--blank-images and --shuffle-images exclude each other; give one of them")
    return options
