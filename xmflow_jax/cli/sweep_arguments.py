"""The command line of `python -m xmflow_jax.sweep`, and the parts of it that `evaluate` has too."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xmflow_jax.data.sources.prepared import BENCHMARKS, DEFAULT_SPLIT
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout import FAST
from xmflow_jax.knockout.modes import MASK
from xmflow_jax.knockout.windows import CENTRED, STYLES
from xmflow_jax.study.options import (
    DEMO_DATA,
    DEMO_MODEL,
    PRESET_MODEL,
    SHAPES_CROSSATTN,
    SHAPES_DATA,
    SHAPES_LLAVA,
    SweepOptions,
)

# More heads than any model has.
MOST_HEADS: Final = 10_000

# Questions that `--preview` shows unless told otherwise.
PREVIEWED: Final = 3


def parse_heads(text: str) -> tuple[int, ...]:
    """Head numbers from text: `"0,3,8-11"` gives 0, 3, 8, 9, 10, 11.

    Raises:
        ArgumentTypeError: the text is no such list.
    """
    heads: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of heads such as 0,3,8-11")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} counts down; write {last}-{first}")
        if span[-1] >= MOST_HEADS:  # a slip of the finger would be a list that no memory holds
            raise argparse.ArgumentTypeError(f"{part.strip()!r} goes beyond head {MOST_HEADS - 1}")
        heads.extend(span)
    return tuple(dict.fromkeys(heads))


class Parser(argparse.ArgumentParser):
    """Bad arguments end like every other bad input: one line, exit code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise OptionError(message)


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data and prompt."""
    add = parser.add_argument
    shipped = ", ".join((SHAPES_LLAVA, SHAPES_CROSSATTN, DEMO_MODEL, PRESET_MODEL))
    add(
        "--model",
        default=SHAPES_LLAVA,
        help=f"shipped ({shipped}), checkpoint directory, or hub id (default: the first)",
    )
    add(
        "--vouch",
        action="append",
        metavar="KEY",
        help="a key of the model's config.json that is not understood, such as text_config.logit_scale, for which you "
        "take responsibility: the model computes the same without it; once for each key",
    )
    add(
        "--data",
        nargs="+",
        default=[SHAPES_DATA],
        help=f"shipped ({SHAPES_DATA}, {DEMO_DATA}), prepared with xmflow_jax.prepare ({', '.join(BENCHMARKS)}), or "
        f"question files (.csv, .json) and folders of them (default: {SHAPES_DATA})",
    )
    add("--images", type=Path, help="folder of the question files' images")
    add("--annotations", type=Path, help="human answers to a VQA v2 or OK-VQA question file")
    add("--scene-graphs", type=Path, help="GQA's scene graphs, for the boxes of the objects asked about")
    add("--split", help=f"of a prepared benchmark, such as testdev or validation[:100] (default: {DEFAULT_SPLIT})")
    add("--data-dir", type=Path, help="where prepared benchmarks lie (default: ~/tensorflow_datasets)")
    add("--template", help="vicuna_v1, llava_llama_3, plain, plain_text, or a text with {question} and <image>")


def add_run_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """How many questions, with what precision and how many at a time, and where the results go.

    Args:
        out: the default run folder, for the help.
    """
    add = parser.add_argument
    add("--samples", type=int, help="at most so many questions, spread over the tasks")
    add("--dtype", help="float32 (default on a CPU) or bfloat16 (default elsewhere)")
    add("--batch-size", type=int, help="questions at a time (default: 1 on a CPU, else 8; 32 for small models)")
    add(
        "--mesh",
        help="device layout, such as data=4,model=2: questions over 4 devices, the model over 2; auto spreads the "
        "model as far as its weights need (default: questions over all accelerators)",
    )
    add("--answer-length", type=int, default=10, help="most tokens of an answer (default: 10)")
    add("--seed", type=int, default=0, help="seed of every random choice (default: 0)")
    add("--out", type=Path, help=f"run folder (default: {out}); an unfinished run in it is resumed")


def add_knockout_arguments(parser: argparse.ArgumentParser) -> None:
    """What is knocked out, for which questions, with which engine."""
    add = parser.add_argument
    add("--pathways", help='such as "Image->Question, Image->Last@to-end"')
    add(
        "--keep-only",
        metavar="PATHWAYS",
        help="beside these, block everything but each of these pathways: is it enough?",
    )
    add(
        "--zero-output",
        metavar="OUTPUTS",
        help='and set outputs to zero, such as "self:Image, mlp:Last@single"; the sublayers are self, cross and mlp',
    )
    add("--window", type=int, help="layers blocked at a time (default: 9 from 32 layers up, 5 from 10, else 3)")
    add("--style", default=CENTRED, help=f"window style: {', '.join(STYLES)} (default: {CENTRED})")
    add(
        "--mode",
        default=MASK,
        help="mask: block before the softmax (default); zero: after it, without renormalising; mean: keep the weights, "
        "give the mean of the sources' values in place of each",
    )
    add("--heads", type=parse_heads, help="heads to block, such as 0,3,8-11 (default: all)")
    add(
        "--each-head",
        action="store_true",
        help="block each of these heads alone as well: heads.csv, and maps of heads by layers",
    )
    add(
        "--controls",
        type=int,
        default=0,
        metavar="N",
        help="beside every pathway run N matched controls: as many edges of each target, drawn at random (default: 0)",
    )
    add("--select", help="questions that the base run answers: correct (default), wrong, all")
    add("--engine", default=FAST, help="fast (default), or plain: the slow reference")
    add(
        "--first-token-only",
        dest="whole_answers",
        action="store_false",
        help="under knockout compute the first answer token alone, which is faster; `knockout_answer` is then the base "
        "run's answer where that token is unchanged, else the token",
    )


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """The processes of a distributed run."""
    add = parser.add_argument
    add(
        "--distributed",
        action="store_true",
        help="this is one of several processes that run the same command on one run folder; JAX finds them on TPU "
        "pods, under Slurm and Open MPI",
    )
    add("--coordinator", metavar="HOST:PORT", help="elsewhere: where the first process is, a port that is free there")
    add("--processes", type=int, metavar="N", help="and how many processes there are")
    add("--process", type=int, metavar="I", help="and which of them, from 0, this one is")


def parse_sweep_arguments(arguments: Sequence[str]) -> SweepOptions:
    """The command line of `python -m xmflow_jax.sweep`.

    Raises:
        OptionError: an unknown option or an unusable value.
    """
    parser = Parser(
        prog="python -m xmflow_jax.sweep",
        description="Attention knockout over every layer of a multimodal LLM: where does visual information flow? "
        f"Without arguments it runs a complete study of the shipped model {SHAPES_LLAVA} on drawn scenes.",
    )
    add_input_arguments(parser)
    add_knockout_arguments(parser)
    add_run_arguments(parser, out="runs/MODEL-DATA")
    add_process_arguments(parser)
    add = parser.add_argument
    add("--dry-run", action="store_true", help="check everything, say what would run, and stop; writes nothing")
    add(
        "--preview",
        type=int,
        nargs="?",
        const=PREVIEWED,
        metavar="N",
        help=f"show the first N questions (default: {PREVIEWED}) with each token's roles, and their images with the "
        "objects' patches outlined; runs no model",
    )
    add(
        "--no-self-check",
        dest="self_check",
        action="store_false",
        help="do not check the engines on the first question before the work",
    )
    parsed = vars(parser.parse_args(arguments))
    parsed["data"], parsed["vouch"] = tuple(parsed["data"]), tuple(parsed["vouch"] or ())
    return SweepOptions(**parsed)
