"""The sweep's options: one dataclass, its command line, and the defaults that depend on model and data."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmflow_jax.data.prepared import BENCHMARKS, DEFAULT_SPLIT
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources import check_questions
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout import ENGINES, FAST
from xmflow_jax.knockout.configuration import MASK, MODES
from xmflow_jax.knockout.pathways import parse_pathways
from xmflow_jax.knockout.windows import CENTRED, STYLES
from xmflow_jax.processes import check_told
from xmflow_jax.study.mesh import parse_mesh

# Shipped models and data by name; the first of each is the default. The others show that everything runs, and no more.
SHAPES_LLAVA: Final = "shapes-llava"
SHAPES_CROSSATTN: Final = "shapes-crossattn"
DEMO_MODEL: Final = "random-tiny"
PRESET_MODEL: Final = "xmflow-12x1024"
SHAPES_DATA: Final = "shapes"
DEMO_DATA: Final = "demo"
# What a user's own `Question` records are called, where a run is named after its data.
OWN_DATA: Final = "own"

CORRECT: Final = "correct"
WRONG: Final = "wrong"
EVERY: Final = "all"
SELECTIONS: Final = (CORRECT, WRONG, EVERY)

DTYPES: Final = ("float32", "bfloat16")

# No model has so many heads, and no study so many of anything.
MOST_HEADS: Final = 10_000
MOST: Final = 10**9
MOST_CONTROLS: Final = 1_000

# Questions that `--preview` shows unless told otherwise.
PREVIEWED: Final = 3


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep is asked to do; None means the default that fits the model, the data or the machine.

    Attributes:
        model: a shipped name, a directory in Hugging Face or converted format, or a hub id.
        data: a shipped name, a prepared benchmark's, question files and folders of them, or (to `run_sweep`) any
            iterable of `Question` records, which then become `questions`.
        images: the folder that holds the question files' images.
        annotations: the file of human answers to the questions of VQA v2's or OK-VQA's question file.
        scene_graphs: GQA's scene graphs, which tell the boxes of the objects that its questions are about.
        split: of a prepared benchmark, as TFDS writes it: `testdev`, `validation[:100]`.
        data_dir: where prepared benchmarks lie; None: where TFDS keeps them.
        questions: a user's own; None: `data` names them.
        template: a named prompt, or a text holding `{question}` and, for models that read the image in their prompt,
            `<image>`; None: the checkpoint's own, or its family's.
        pathways: comma-separated, a window style may follow `@`.
        window, style: width and style of the windows.
        mode: `mask` blocks before the softmax, `zero` sets weights to zero after it.
        heads: blocked heads; None: all.
        controls: so many matched controls of each pathway are drawn and run beside it.
        select: questions by what the base run answers: `correct`, `wrong` or `all`.
        samples: at most so many questions, spread evenly over the tasks.
        engine: `fast` or `plain`.
        dtype: of the parameters and hidden states; logits, softmax and norms are float32 in any case.
        batch_size: questions at a time.
        mesh: device layout, such as `data=4,model=2`, or `auto`; None: questions over all accelerators.
        distributed: one of several processes runs here; JAX finds the others, or the next three tell.
        coordinator: host and port of the first process.
        processes, process: how many there are, and which of them, from 0, this one is.
        answer_length: most tokens of an answer.
        whole_answers: decode whole answers under knockout; else their first token alone.
        seed: of the choice of samples, and of the controls' draws.
        out: the run folder.
        self_check: check the engines on the first question before the work.
        dry_run: check everything, say what would run, and stop.
        preview: show so many questions with their roles, and stop; None: do not.
    """

    model: str = SHAPES_LLAVA
    data: tuple[str, ...] = (SHAPES_DATA,)
    images: Path | None = None
    annotations: Path | None = None
    scene_graphs: Path | None = None
    split: str | None = None
    data_dir: Path | None = None
    questions: tuple[Question, ...] | None = None
    template: str | None = None
    pathways: str | None = None
    window: int | None = None
    style: str = CENTRED
    mode: str = MASK
    heads: tuple[int, ...] | None = None
    controls: int = 0
    select: str | None = None
    samples: int | None = None
    engine: str = FAST
    dtype: str | None = None
    batch_size: int | None = None
    mesh: str | None = None
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    answer_length: int = 10
    whole_answers: bool = True
    seed: int = 0
    out: Path | None = None
    self_check: bool = True
    dry_run: bool = False
    preview: int | None = None

    def __post_init__(self) -> None:
        # `run_sweep` may be called with one file, lists, a range, paths as text, or questions.
        data = (self.data,) if isinstance(self.data, str | Path) else tuple(self.data)
        if any(isinstance(item, Question) for item in data):
            object.__setattr__(self, "questions", check_questions(data))
            data = (OWN_DATA,)
        object.__setattr__(self, "data", tuple(map(str, data)))
        object.__setattr__(self, "model", str(self.model))
        object.__setattr__(self, "heads", None if self.heads is None else tuple(map(int, self.heads)))
        for name in ("images", "annotations", "scene_graphs", "data_dir", "out"):
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else Path(path))

    @property
    def benchmark(self) -> str | None:
        """The prepared benchmark that `data` names; with `images` it names a file or folder."""
        named = self.data[0] if len(self.data) == 1 and self.questions is None else None
        return named if named in BENCHMARKS and self.images is None else None


def check_options(options: SweepOptions) -> None:
    """Whatever can be checked without model and data.

    Raises:
        OptionError: a value is not one of its choices, or a count is not positive.
    """
    choices: tuple[tuple[str, str | None, Sequence[str]], ...] = (
        ("mode", options.mode, MODES),
        ("style", options.style, STYLES),
        ("select", options.select, SELECTIONS),
        ("engine", options.engine, ENGINES),
        ("dtype", options.dtype, DTYPES),
    )
    for name, value, allowed in choices:
        if value is not None and value not in allowed:
            raise OptionError(f"--{name} {value!r} is not one of: {', '.join(allowed)}")
    for name in ("window", "samples", "batch_size", "answer_length", "preview"):
        count = getattr(options, name)
        if count is not None and not 1 <= count <= MOST:
            bounds = "1 or more" if count < 1 else f"at most {MOST}"
            raise OptionError(f"--{name.replace('_', '-')} {count} is not {bounds}")
    for name in ("seed", "controls"):
        if getattr(options, name) < 0:
            raise OptionError(f"--{name} {getattr(options, name)} is not 0 or more")
    if options.controls > MOST_CONTROLS:
        raise OptionError(f"--controls {options.controls} is not at most {MOST_CONTROLS}")
    if options.heads is not None and not options.heads:
        raise OptionError("--heads names no head; leave it out to block all of them")
    _check_data(options)
    if options.dry_run and options.preview is not None:
        raise OptionError("--preview writes images and --dry-run writes nothing; give one of them")
    if options.pathways is not None:
        parse_pathways(options.pathways, options.style)
    if options.mesh is not None:
        parse_mesh(options.mesh)
    check_told(options.distributed, options.mesh, options.coordinator, options.processes, options.process)


def _check_data(options: SweepOptions) -> None:
    """Options about data go with the data that they are about."""
    data = " ".join(options.data)
    shipped = options.data in ((SHAPES_DATA,), (DEMO_DATA,))
    from_files = not (shipped or options.questions is not None or options.benchmark is not None)
    if from_files and options.images is None:
        if len(options.data) > 1 and set(options.data) & set(BENCHMARKS):
            raise OptionError(f"--data {data}: a prepared benchmark goes alone")
        raise OptionError(f"--data {data} needs --images, the folder of its images")
    for name in ("annotations", "scene_graphs"):
        if getattr(options, name) is not None and not from_files:
            raise OptionError(f"--{name.replace('_', '-')} goes with a question file; --data {data} is none")
    for name in ("split", "data_dir"):
        if getattr(options, name) is not None and options.benchmark is None:
            expected = ", ".join(BENCHMARKS)
            raise OptionError(f"--{name.replace('_', '-')} goes with a prepared benchmark ({expected}), not {data}")


def parse_heads(text: str) -> tuple[int, ...]:
    """`"0,3,8-11"` to head numbers."""
    heads: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of heads such as 0,3,8-11")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} counts down; write {last}-{first}")
        if span[-1] >= MOST_HEADS:  # before a slip of the finger is a list that no memory holds
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


def parse_arguments(arguments: Sequence[str]) -> SweepOptions:
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
    add = parser.add_argument
    add("--pathways", help='such as "Image->Question, Image->Last@to-end"')
    add("--window", type=int, help="layers blocked at a time (default: 9 from 32 layers up, 5 from 10, else 3)")
    add("--style", default=CENTRED, help=f"window style: {', '.join(STYLES)} (default: {CENTRED})")
    add("--mode", default=MASK, help="mask: block before the softmax (default); zero: after it, without renormalising")
    add("--heads", type=parse_heads, help="heads to block, such as 0,3,8-11 (default: all)")
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
    add_run_arguments(parser, out="runs/MODEL-DATA")
    add(
        "--distributed",
        action="store_true",
        help="this is one of several processes that run the same command on one run folder; JAX finds them on TPU "
        "pods, under Slurm and Open MPI",
    )
    add("--coordinator", metavar="HOST:PORT", help="elsewhere: where the first process is, a port that is free there")
    add("--processes", type=int, metavar="N", help="and how many processes there are")
    add("--process", type=int, metavar="I", help="and which of them, from 0, this one is")
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
    parsed["data"] = tuple(parsed["data"])
    return SweepOptions(**parsed)
