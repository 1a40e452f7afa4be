"""The command line of `python -m xmflow_jax.evaluate`."""

from collections.abc import Sequence
from typing import Any

from xmflow_jax.cli.sweep_arguments import Parser, add_input_arguments, add_run_arguments
from xmflow_jax.scoring.scorers import SCORERS
from xmflow_jax.study.options import SHAPES_DATA, SHAPES_LLAVA


def parse_evaluate_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """The command line of `python -m xmflow_jax.evaluate`, as the keywords of
    `xmflow_jax.study.evaluation_options.evaluation_options`.

    Raises:
        OptionError: an unknown option or an unusable value.
    """
    parser = Parser(
        prog="python -m xmflow_jax.evaluate",
        description="Accuracy of a multimodal LLM on a data set, without knockouts. Without arguments it evaluates the "
        f"shipped model {SHAPES_LLAVA} on drawn scenes ({SHAPES_DATA}).",
    )
    add_input_arguments(parser)
    parser.add_argument("--scorer", help=f"{', '.join(SCORERS)} (default: the data's own rule)")
    parser.add_argument(
        "--blank-images", action="store_true", help="a blind baseline: every image replaced by the mean colour"
    )
    parser.add_argument(
        "--shuffle-images",
        action="store_true",
        help="a blind baseline: each question gets another question's image, drawn by --seed",
    )
    add_run_arguments(parser, out="runs/evaluate-MODEL-DATA")
    parsed = vars(parser.parse_args(arguments))
    parsed["data"], parsed["vouch"] = tuple(parsed["data"]), tuple(parsed["vouch"] or ())
    return parsed
