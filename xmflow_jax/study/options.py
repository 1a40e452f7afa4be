"""The sweep's options: one dataclass, and what can be checked of it without model and data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import check_questions
from xmflow_jax.data.sources.prepared import BENCHMARKS
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout import ENGINES, FAST
from xmflow_jax.knockout.modes import MASK, MODES
from xmflow_jax.knockout.output_places import parse_output_places
from xmflow_jax.knockout.pathways import parse_pathways
from xmflow_jax.knockout.windows import CENTRED, STYLES
from xmflow_jax.machine.mesh import parse_mesh
from xmflow_jax.machine.processes import check_process_options

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

# More than any study has of anything.
MOST: Final = 10**9
MOST_CONTROLS: Final = 1_000
# Tokens; every position of an answer has its place in the arrays, used or not.
MOST_ANSWER: Final = 1_000


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep is asked to do; None means the default that fits the model, the data or the machine.

    Attributes:
        model: a shipped name, a directory in Hugging Face or converted format, or a hub id.
        vouch: keys of the model's config.json that are not understood and that the user takes responsibility for.
        data: a shipped name, a prepared benchmark's, or question files and folders of them.
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
        keep_only: pathways, written as above; beside the others, everything but each of these is blocked.
        zero_output: outputs of sublayers that are set to zero, such as `self:Image, mlp:Last@single`.
        mode: `mask` blocks before the softmax, `zero` sets weights to zero after it.
        heads: blocked heads; None: all.
        each_head: each of these heads is blocked alone as well.
        controls: how many matched controls of each pathway are drawn and run beside it.
        select: questions by what the base run answers: `correct`, `wrong` or `all`.
        samples: the most questions, spread evenly over the tasks.
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
        preview: how many questions to show with their roles, instead of a run; None: run.
    """

    model: str = SHAPES_LLAVA
    vouch: tuple[str, ...] = ()
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
    keep_only: str | None = None
    zero_output: str | None = None
    mode: str = MASK
    heads: tuple[int, ...] | None = None
    each_head: bool = False
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

    @property
    def benchmark(self) -> str | None:
        """The prepared benchmark that `data` names; with `images` it names a file or folder."""
        named = self.data[0] if len(self.data) == 1 and self.questions is None else None
        return named if named in BENCHMARKS and self.images is None else None


def sweep_options(**given: Any) -> SweepOptions:
    """The options of `run_sweep`, whose caller may give one file, lists, a range, paths as text, or questions.

    `sweep_options(data="a.csv", images="pictures", heads=range(2))` has `data=("a.csv",)`, `images=Path("pictures")`
    and `heads=(0, 1)`.

    Args:
        given: fields of `SweepOptions`; `data` may be any iterable of `Question` records, which become `questions`.

    Raises:
        TypeError: there is no such option.
        DataError: the questions are none, are no `Question` records, or two of one task have one id.
    """
    fields = dict(given)
    if "data" in fields:
        data = (fields["data"],) if isinstance(fields["data"], str | Path) else tuple(fields["data"])
        if any(isinstance(item, Question) for item in data):
            fields["questions"] = check_questions(data)
            data = (OWN_DATA,)
        fields["data"] = tuple(map(str, data))
    if "model" in fields:
        fields["model"] = str(fields["model"])
    if "vouch" in fields:
        fields["vouch"] = vouched_keys(fields["vouch"])
    if fields.get("heads") is not None:
        fields["heads"] = tuple(map(int, fields["heads"]))
    for name in ("images", "annotations", "scene_graphs", "data_dir", "out"):
        if fields.get(name) is not None:
            fields[name] = Path(fields[name])
    return SweepOptions(**fields)


def vouched_keys(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Keys of config.json, of which a caller may give one as a text."""
    return (given,) if isinstance(given, str) else tuple(map(str, given or ()))


def check_options(options: SweepOptions) -> None:
    """Check everything about the options that can be checked without model and data.

    Raises:
        OptionError: a value is not one of its choices, or a count is not positive.
    """
    choices: tuple[tuple[str, str | None, Sequence[str]], ...] = (
        ("mode", options.mode, tuple(MODES)),
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
        most = MOST_ANSWER if name == "answer_length" else MOST
        if count is not None and not 1 <= count <= most:
            bounds = "1 or more" if count < 1 else f"at most {most}"
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
    if options.keep_only is not None:
        parse_pathways(options.keep_only, options.style)
    if options.zero_output is not None:
        parse_output_places(options.zero_output, options.style)
    if options.mesh is not None:
        parse_mesh(options.mesh)
    check_process_options(options.distributed, options.mesh, options.coordinator, options.processes, options.process)


def _check_data(options: SweepOptions) -> None:
    """Refuse options about data beside data that they are not about, such as `--split` beside question files."""
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
