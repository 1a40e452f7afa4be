"""The command `python -m xmflow_jax.sweep`: an attention-knockout study, from one line to its figures."""

import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from xmflow_jax.errors import XmflowError
from xmflow_jax.study.options import (
    CORRECT,
    DEMO_DATA,
    DEMO_MODEL,
    EVERY,
    PRESET_MODEL,
    SHAPES_CROSSATTN,
    SHAPES_DATA,
    SHAPES_LLAVA,
    SweepOptions,
    check_options,
    parse_arguments,
)

if TYPE_CHECKING:  # What takes seconds to import is imported where it is used, so that --help answers at once.
    import pandas as pd

    from xmflow_jax.analysis.model_shape import ModelShape
    from xmflow_jax.data.question import Question
    from xmflow_jax.results import RunFolder
    from xmflow_jax.study.answer import Setting
    from xmflow_jax.study.plan import TaskStudy
    from xmflow_jax.weights.load import LoadedModel

Say = Callable[[str], None]

# Parameters of a model whose layers are too small to keep a processor busy with one question.
SMALL_MODEL = 10_000_000


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves: the run folder, its tables as data frames, and the figures' files."""

    folder: Path
    rows: "pd.DataFrame"
    summary: "pd.DataFrame"
    figures: tuple[Path, ...]


def run_sweep(say: Say = lambda line: None, progress: bool = False, **options: Any) -> SweepResult:
    """Run a study, or go on with it where its run folder holds a part of it.

    Args:
        say: called with each line of news; by default nothing is printed.
        progress: show a bar with the time left on standard error.
        options: the fields of `SweepOptions`.

    Raises:
        XmflowError: an option, the checkpoint, the data or the run folder cannot be used.
    """
    chosen = SweepOptions(**options)
    check_options(chosen)
    with ExitStack() as stack:
        return _run(chosen, say, progress, stack)


def _run(options: SweepOptions, say: Say, progress: bool, stack: ExitStack) -> SweepResult:
    import jax

    from xmflow_jax.data.processing import load_processing
    from xmflow_jax.data.sources import read_questions
    from xmflow_jax.data.templates import default_template, resolve_template
    from xmflow_jax.results import open_run
    from xmflow_jax.study.answer import Setting, answer_task
    from xmflow_jax.study.plan import choose_samples, plan_studies
    from xmflow_jax.weights.load import load_model

    on_cpu = jax.default_backend() == "cpu"
    scratch = Path(stack.enter_context(TemporaryDirectory(prefix="xmflow-")))
    named = None if options.template is None else resolve_template(options.template)
    files, images = _question_files(options, scratch)
    questions = choose_samples(read_questions(files, images), options.samples, options.seed)
    folder = _model_folder(options.model, scratch, say)
    processing = load_processing(folder)
    image_in_prompt = processing.image_token_id is not None
    template = (named or default_template(folder, image_in_prompt)).for_model(image_in_prompt)
    model = load_model(folder, options.dtype or ("float32" if on_cpu else "bfloat16"))
    if model.dtype == "float32":
        # A GPU would multiply in TF32 and a TPU in bfloat16: float32 means float32 here.
        stack.enter_context(jax.default_matmul_precision("highest"))
    select = options.select or (EVERY if options.model in (DEMO_MODEL, PRESET_MODEL) else CORRECT)
    studies = plan_studies(questions, options, model.config, say)
    configuration = {
        "model": {"name": _name(options.model), "digest": model.digest, "dtype": model.dtype},
        "data": _digests(files),
        "template": asdict(template),
        "pathways": {
            study.task: list(dict.fromkeys(f"{row.pathway}@{row.style}:{row.window}" for row in study.rows))
            for study in studies
        },
        "mode": options.mode,
        "heads": options.heads,
        "select": select,
        "samples": options.samples,
        "seed": options.seed,
        "engine": options.engine,
        "answer_length": options.answer_length,
        "scoring": "exact match; under knockout of the first answer token",
    }
    out = options.out or Path("runs") / f"{_name(options.model)}-{_name(options.data[0])}"
    setting = Setting(
        model=model,
        processing=processing,
        template=template,
        engine=options.engine,
        select=select,
        batch_size=options.batch_size or _batch_size(model, on_cpu),
        answer_length=options.answer_length,
    )
    shape = _shape(setting, questions)
    with open_run(out, configuration, _provenance(setting.batch_size, shape)) as run:
        done = run.finished_questions()
        every = {(question.task, question.question_id) for study in studies for question in study.questions}
        knockouts = sum(len(study.questions) * len(study.rows) for study in studies)
        say(
            f"{len(every)} questions of {len(studies)} tasks, {knockouts} knockouts; {len(every & done)} questions done"
        )
        with _progress(len(every - done), progress) as advance:
            for study in studies:
                answer_task(study, setting, run, advance)
        return _report(run, studies, shape, options.seed, say)


def _model_folder(name: str, scratch: Path, say: Say) -> Path:
    """The directory of the model's files."""
    from xmflow_jax.study.shipped import shipped_checkpoint, write_preset, write_random_tiny
    from xmflow_jax.weights.source import resolve_source

    if name in (SHAPES_LLAVA, SHAPES_CROSSATTN):
        return shipped_checkpoint(name)
    if name == PRESET_MODEL:
        say(f"{PRESET_MODEL}: this project's own family at full size, with random weights; its curves mean nothing")
        return write_preset(scratch / PRESET_MODEL)
    if name != DEMO_MODEL:
        return resolve_source(name)
    say(f"{DEMO_MODEL}: a tiny LLaVA with random weights; this shows that everything runs, its curves mean nothing")
    return write_random_tiny(scratch / DEMO_MODEL)


def _question_files(options: SweepOptions, scratch: Path) -> tuple[list[Path], Path]:
    """The question files (folders expanded) and the folder of their images."""
    from xmflow_jax.data.shapes.source import shapes_questions
    from xmflow_jax.data.sources import question_files
    from xmflow_jax.study.shipped import write_demo

    if options.data == (SHAPES_DATA,):
        return shapes_questions(scratch / SHAPES_DATA)
    if options.data == (DEMO_DATA,):
        return write_demo(scratch / DEMO_DATA)
    assert options.images is not None, "check_options"
    return question_files([Path(text) for text in options.data]), options.images


def _batch_size(model: "LoadedModel", on_cpu: bool) -> int:
    """Questions at a time: small models are fast in large batches, whatever the device."""
    import jax

    if sum(leaf.size for leaf in jax.tree.leaves(model.state)) < SMALL_MODEL:
        return 32
    return 1 if on_cpu else 8


def _digests(files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of the question files by name; files of one name, in different folders, stand behind each other."""
    digests: dict[str, str] = {}
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        digests[path.name] = f"{digests[path.name]} {digest}" if path.name in digests else digest
    return digests


def _name(text: str) -> str:
    """A model's or data set's name for the run folder: the last part of its path or hub id."""
    path = Path(text)
    if path.is_file():
        return path.stem
    # A dot in a folder's name is no suffix: llava-1.5-7b-hf.
    return path.resolve().name if path.is_dir() else text.rsplit("/", 1)[-1]


def _shape(setting: "Setting", questions: "Sequence[Question]") -> "ModelShape | None":
    """What the report must know of the model and of a typical prompt, the first one that can be used."""
    from xmflow_jax.analysis.model_shape import ModelShape
    from xmflow_jax.data.prompt import prepare_question
    from xmflow_jax.data.roles import IMAGE
    from xmflow_jax.errors import QuestionSetAside
    from xmflow_jax.models.cross_attention import CrossAttentionConfig

    text = setting.model.config.text
    cross_attention = isinstance(setting.model.config, CrossAttentionConfig)
    for question in questions:
        try:
            prompt = prepare_question(question, setting.processing, setting.template)
        except QuestionSetAside:
            continue
        image = int(prompt.roles[IMAGE].sum())
        return ModelShape(
            layers=text.layers,
            width=text.width,
            heads=text.heads,
            kv_heads=text.kv_heads,
            head_width=text.head_width,
            mlp_width=text.mlp_width,
            image_positions=image,
            text_positions=len(prompt.token_ids) - (0 if cross_attention else image),
            mlp_matrices=2 if cross_attention else 3,
            number_bytes=2 if setting.model.dtype == "bfloat16" else 4,
            cross_attention_layers=tuple(range(text.layers)) if cross_attention else (),
            both_attentions=cross_attention,
        )
    return None


def _provenance(batch_size: int, shape: "ModelShape | None") -> dict[str, Any]:
    """What describes a session without deciding its results."""
    import jax

    from xmflow_jax.report.rebuild import SHAPE_KEY

    packages = ("xmflow-jax", "jax", "jaxlib", "flax", "transformers", "numpy")
    return {
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "batch_size": batch_size,
        SHAPE_KEY: None if shape is None else asdict(shape),
    }


@contextmanager
def _progress(questions: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error with the time left; a log file gets a line's worth of it every ten seconds."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=questions, unit="question", smoothing=0.1, mininterval=interval, disable=not show) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


def _report(
    run: "RunFolder", studies: "Sequence[TaskStudy]", shape: "ModelShape | None", seed: int, say: Say
) -> SweepResult:
    """Summary and figures, from the landed rows alone."""
    from xmflow_jax.report.rebuild import rebuild
    from xmflow_jax.results import NOT_SELECTED, SET_ASIDE
    from xmflow_jax.study.plan import missing_pathways

    run.write_record()
    rows, skipped = run.read_rows(), run.read_skipped()
    rebuilt = rebuild(run.path, rows, shape, seed)
    answered = len(rows[["task", "question_id"]].drop_duplicates())
    aside, unselected = (int((skipped["kind"] == kind).sum()) for kind in (SET_ASIDE, NOT_SELECTED))
    for line in missing_pathways(rows, studies):
        say(line)
    say(f"{answered} questions in the results, {aside} set aside (reasons in run.json), {unselected} not selected")
    say(f"results {run.path}, summary {run.path / 'summary.csv'}, figures {run.figures}")
    for line in rebuilt.lines:
        say(line)
    return SweepResult(run.path, rows, rebuilt.summary, rebuilt.figures)


def _prepare_process() -> None:
    """Settings of a process that is a sweep: compiled programs are kept on disk, and transformers says no more than
    errors (that PyTorch is missing is no news here). A setting of the user's own wins."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "xmflow_jax" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input (one line on standard error), 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = parse_arguments(arguments)
        _prepare_process()
        run_sweep(say=print, progress=True, **vars(options))
    except XmflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", "xmflow_jax.sweep", *arguments])
        print(
            f"\ninterrupted; what was finished is kept, and this command goes on from there: {again}", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
