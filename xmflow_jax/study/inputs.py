"""What a sweep reads before its weights: question files, images folder, processing files, the prompt."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmflow_jax.data.chosen_prompt import ChosenPrompt
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import question_files, questions_digest, read_question_files
from xmflow_jax.data.sources.prepared import DEFAULT_SPLIT, read_benchmark
from xmflow_jax.data.sources.shapes.source import shapes_questions
from xmflow_jax.data.templates import Template, resolve_template
from xmflow_jax.families.checkpoint import Checkpoint, read_checkpoint
from xmflow_jax.run.row_words import EDGES, KEEP_ONLY, OUTPUT
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
)
from xmflow_jax.study.shipped import shipped_checkpoint, write_demo, write_preset, write_random_tiny
from xmflow_jax.study.task_studies import TaskStudy, choose_samples
from xmflow_jax.weights.config_checks import shown, spelt
from xmflow_jax.weights.load import ModelIdentity


@dataclass(frozen=True)
class Inputs:
    """What the options name, read and checked as far as can be without the weights.

    Attributes:
        files: those that the questions were read from: question files, folders expanded, annotations, scene graphs;
            none where the questions came from a prepared benchmark or are the user's own.
        data_name: names the questions where there are no files.
        questions: those asked for, in the order of their source.
        checkpoint: the model's files, of which config.json has been read.
        origins: the file of each question, by `(task, question_id)`; none where there are no files.
    """

    files: tuple[Path, ...]
    data_name: str
    questions: tuple[Question, ...]
    checkpoint: Checkpoint
    processing: Processing
    prompt: ChosenPrompt
    origins: Mapping[tuple[str, str], Path] = field(default_factory=dict)

    @property
    def template(self) -> Template:
        """The prompt around every question."""
        return self.prompt.template

    def file_of(self, question: Question) -> str:
        """The name of the question's file, or of the source of all."""
        return str(self.origins.get((question.task, question.question_id), self.data_name))

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files by name; files of one name, in different folders, stand behind each other.

        Where there are no files, that of the questions by the name of their source.
        """
        if not self.files:
            return {self.data_name: questions_digest(self.questions)}
        digests: dict[str, str] = {}
        for path in self.files:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            digests[path.name] = f"{digests[path.name]} {digest}" if path.name in digests else digest
        return digests


def read_inputs(options: SweepOptions, scratch: Path, say: Callable[[str], None]) -> Inputs:
    """Questions, processing and prompt, in the order of what takes least time.

    Args:
        scratch: a folder for models and data that are made on the spot.
        say: told of a model that shows no more than that everything runs.

    Raises:
        XmflowError: any of them is missing, faulty or does not fit the others.
    """
    named = None if options.template is None else resolve_template(options.template)
    files, questions, origins = _read_data(options, scratch)
    checkpoint = read_checkpoint(_model_source(options.model, scratch, say), options.vouch)
    processing = checkpoint.processing()
    for line in config_lines(checkpoint):
        say(line)
    if named is not None:
        prompt = ChosenPrompt(named.for_model(checkpoint.anatomy.image_in_prompt), "given by --template")
    else:
        prompt = checkpoint.prompt(processing)
    say(prompt.line())
    return Inputs(files, _data_name(options), questions, checkpoint, processing, prompt, origins)


def config_lines(checkpoint: Checkpoint) -> list[str]:
    """What people are told of config.json's keys that are no part of the computation, or that someone vouched for."""
    lines = []
    if checkpoint.passed_over:
        told = ", ".join(f"{spelt(key)} ({why})" for key, why in checkpoint.passed_over.items())
        lines.append(f"passed over in config.json: {told}")
    if checkpoint.vouched:
        told = ", ".join(f"{spelt(key)} = {shown(value)}" for key, value in checkpoint.vouched.items())
        lines.append(f"vouched for, not understood: {told}; the results hold if the model computes the same without")
    return lines


def short_name(text: str) -> str:
    """A model's or data set's name for the run folder: the last part of its path or hub id."""
    path = Path(text)
    with suppress(OSError):  # what may not be read, or is too long for a path, is refused where it is used
        if path.is_file():
            return path.stem
        # A dot in a folder's name is no suffix: llava-1.5-7b-hf.
        if path.is_dir():
            return path.resolve().name
    return text.rsplit("/", 1)[-1]


def usual_folder(model: str, data: str, lead: str = "", end: str = "") -> Path:
    """The run folder where none is named: `runs/MODEL-DATA`, of both as much as a folder's name can hold."""
    names = (short_name(text).encode(errors="surrogateescape")[:90].decode(errors="ignore") for text in (model, data))
    return Path("runs") / f"{lead}{'-'.join(names)}{end}"


def run_configuration(
    options: SweepOptions, inputs: Inputs, identity: ModelIdentity, studies: Sequence[TaskStudy]
) -> dict[str, Any]:
    """What decides the results, as JSON values: a run is resumed with an equal one alone."""
    return {
        "model": {"name": short_name(options.model), "digest": identity.digest, "dtype": identity.dtype},
        **vouched_settings(inputs.checkpoint),
        "data": inputs.digests(),
        "template": inputs.template.record(),
        "end_tokens": list(inputs.processing.end_tokens),
        "pathways": _named(studies, EDGES),
        **({} if options.keep_only is None else {"keep_only": _named(studies, KEEP_ONLY)}),
        **({} if options.zero_output is None else {"zero_output": _named(studies, OUTPUT)}),
        "mode": options.mode,
        "heads": options.heads,
        "each_head": options.each_head,
        "controls": options.controls,
        "select": options.select or (EVERY if options.model in (DEMO_MODEL, PRESET_MODEL) else CORRECT),
        "samples": options.samples,
        "seed": options.seed,
        "engine": options.engine,
        "answer_length": options.answer_length,
        "scorers": sorted({question.scorer for question in inputs.questions}),
        "scoring": "of whole answers, decoded greedily; under knockout "
        + (
            "with the knockout in force for generated positions, which belong to the roles Last and All"
            if options.whole_answers
            else "the base answer where the first token is unchanged, else that token alone"
        ),
    }


def vouched_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """The part of a run's configuration about keys that a person vouched for; empty where there are none."""
    return {"vouched": dict(checkpoint.vouched)} if checkpoint.vouched else {}


def _named(studies: Sequence[TaskStudy], kind: str) -> dict[str, list[str]]:
    """Each task's knockouts of one kind, with window style and width: `Image->Last@centred:9`."""
    named = {}
    for study in studies:
        own = (row for row in study.rows if row.kind == kind)
        named[study.task] = list(dict.fromkeys(f"{row.pathway}@{row.style}:{row.window}" for row in own))
    return named


def _model_source(name: str, scratch: Path, say: Callable[[str], None]) -> str | Path:
    """A directory, or whatever else `--model` names."""
    if name in (SHAPES_LLAVA, SHAPES_CROSSATTN):
        return shipped_checkpoint(name)
    if name == PRESET_MODEL:
        say(f"{PRESET_MODEL}: this project's own family at full size, with random weights; its curves mean nothing")
        return write_preset(scratch / PRESET_MODEL, PRESET_MODEL)
    if name != DEMO_MODEL:
        return name
    say(f"{DEMO_MODEL}: a tiny LLaVA with random weights; this shows that everything runs, its curves mean nothing")
    return write_random_tiny(scratch / DEMO_MODEL)


def _read_data(
    options: SweepOptions, scratch: Path
) -> tuple[tuple[Path, ...], tuple[Question, ...], dict[tuple[str, str], Path]]:
    """The files that were read, the questions chosen from them, and the file of each question read."""

    def choose(questions: Sequence[Question]) -> list[Question]:
        return choose_samples(questions, options.samples, options.seed)

    if options.questions is not None:
        return (), tuple(choose(options.questions)), {}
    if options.benchmark is not None:
        images = scratch / "images"
        return (), tuple(read_benchmark(options.benchmark, images, options.split, options.data_dir, choose)), {}
    files, folder = _question_files(options, scratch)
    by_file = read_question_files(files, folder, options.annotations, options.scene_graphs)
    others = [file for file in (options.annotations, options.scene_graphs) if file is not None]
    origins = {(one.task, one.question_id): file for file, own in by_file.items() for one in own}
    questions = tuple(choose([one for own in by_file.values() for one in own]))
    return (*files, *others), questions, origins


def _data_name(options: SweepOptions) -> str:
    return options.data[0] if options.benchmark is None else f"{options.benchmark}:{options.split or DEFAULT_SPLIT}"


def _question_files(options: SweepOptions, scratch: Path) -> tuple[Sequence[Path], Path]:
    """The question files (folders expanded) and the folder of their images."""
    if options.data == (SHAPES_DATA,):
        return shapes_questions(scratch / SHAPES_DATA)
    if options.data == (DEMO_DATA,):
        return write_demo(scratch / DEMO_DATA)
    assert options.images is not None, "check_options"
    return question_files([Path(text) for text in options.data]), options.images
