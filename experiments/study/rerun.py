"""The first study (arXiv 2411.18620) on its four models and six tasks, from checkpoints to its figures, by one command.

    python -m experiments.study.rerun --models CHECKPOINTS --questions QUESTION_FILES --images IMAGES
    python -m experiments.study.rerun --stand-in

The first wants the published checkpoints in Hugging Face format, each in a folder named as its repository, the study's
six question files, and GQA's images. The second makes random checkpoints of the same layouts and draws scenes, so that
all of it runs without a download. Each model has a run folder of its own; what is finished stays, and the same command
goes on from there. The page is written anew after every model.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from experiments.study.figures import PATHWAYS, VIEWS, draw_figures
from experiments.study.models import MODELS, StudyModel, write_stand_in
from experiments.study.page import ModelPart, write_page
from experiments.study.shapes import SHAPES, Curves, Outcome, Shape, curves_of, judge
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS, task_of
from xmflow_jax.errors import OptionError, XmflowError
from xmflow_jax.sweep import SweepResult, run_sweep

# Questions of each task that a stand-in is asked.
STAND_IN_QUESTIONS: Final = 6


@dataclass(frozen=True)
class Material:
    """What is run on what.

    Attributes:
        models: with their checkpoints.
        questions: the six files.
        images: the folder of their images.
    """

    models: tuple[tuple[StudyModel, Path], ...]
    questions: tuple[Path, ...]
    images: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input (one line on standard error)."""
    parser = argparse.ArgumentParser(prog="python -m experiments.study.rerun", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="the folder of the published checkpoints")
    parser.add_argument("--questions", type=Path, help="the folder of the study's six question files")
    parser.add_argument("--images", type=Path, help="the folder of GQA's images")
    parser.add_argument("--only", nargs="+", choices=[model.name for model in MODELS], help="these models alone")
    parser.add_argument("--stand-in", action="store_true", help="random checkpoints and drawn scenes instead")
    parser.add_argument("--samples", type=int, help="the most questions of a model, spread over the tasks")
    parser.add_argument("--out", type=Path, default=Path("runs") / "study", help="where runs and page go")
    options = parser.parse_args(arguments)
    try:
        material = _stand_ins(options) if options.stand_in else _published(options)
        rerun(material, options.out, options.samples, stand_in=options.stand_in)
    except XmflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _chosen(options: argparse.Namespace) -> list[StudyModel]:
    return [model for model in MODELS if options.only is None or model.name in options.only]


def _published(options: argparse.Namespace) -> Material:
    """What the options name.

    Raises:
        OptionError: one of them is missing, or names a folder without what it should hold.
    """
    for name in ("models", "questions", "images"):
        if getattr(options, name) is None:
            raise OptionError(f"--{name} is missing; --stand-in runs without it")
        if not getattr(options, name).is_dir():
            raise OptionError(f"--{name} {getattr(options, name)}: no such folder")
    chosen = _chosen(options)
    there = [(model, options.models / model.directory) for model in chosen]
    there = [(model, path) for model, path in there if path.is_dir()]
    wanted = " or ".join(model.directory for model in chosen)
    if not there:
        raise OptionError(f"--models {options.models} holds none of the study's checkpoints; expected {wanted}")
    missing = [model.directory for model in chosen if model not in dict(there)]
    if missing and options.only is not None:
        raise OptionError(f"--models {options.models} has no {', '.join(missing)}")
    for name in missing:
        print(f"left out: {options.models} has no {name}", flush=True)
    files = tuple(sorted(options.questions.glob("*.csv")))
    if not files:
        raise OptionError(f"--questions {options.questions} holds no question file (*.csv)")
    unasked = [task for task in STUDY_TASKS if task not in map(task_of, files)]
    if unasked:
        print(f"left out: {options.questions} has no questions of {', '.join(unasked)}", flush=True)
    return Material(tuple(there), files, options.images)


def _stand_ins(options: argparse.Namespace) -> Material:
    """Random checkpoints and drawn scenes, made once beside the runs."""
    made = options.out / "stand-in"
    models = []
    for model in _chosen(options):
        folder = made / model.directory
        if not folder.exists():
            # Named when it is whole: one that was begun and left is made again.
            begun = made / f".{model.directory}"
            shutil.rmtree(begun, ignore_errors=True)
            write_stand_in(begun, model).rename(folder)
        models.append((model, folder))
    questions, images = write_demo_questions(made / "questions", STAND_IN_QUESTIONS, seed=0)
    return Material(tuple(models), tuple(questions), images)


def rerun(material: Material, out: Path, samples: int | None, *, stand_in: bool) -> Path:
    """Run every model on every task, and write the page after each; returns its path.

    Args:
        out: made if need be; a run folder for each model and the page go there.
        samples: the most questions of a model; None: all.

    Raises:
        XmflowError: a checkpoint, the questions or a run folder cannot be used; what other models gave stays.
    """
    parts, curves, tasks, page = list[ModelPart](), dict[str, dict[str, Curves]](), list[str](), out / "index.html"
    for model, checkpoint in material.models:
        print(f"{model.name}: window {model.window}, prompt {model.template}", flush=True)
        pathways = [one for one in PATHWAYS if model.family == "llava_next" or one not in VIEWS]
        result = run_sweep(
            model=str(checkpoint),
            data=material.questions,
            images=material.images,
            template=model.template,
            window=model.window,
            pathways=",".join(pathways),
            samples=samples,
            # A random model answers nothing right.
            select="all" if stand_in else "correct",
            whole_answers=False,
            out=out / model.name,
            say=lambda line: print(f"  {line}", flush=True),
            progress=True,
        )
        tasks += [task for task in dict.fromkeys(result.summary["task"]) if task not in tasks]
        parts.append(_part(model, result, out))
        curves[model.name] = {task: curves_of(result.summary, task) for task in dict.fromkeys(result.summary["task"])}
        # Some shapes are told of a model beside one that comes later.
        judged = [replace(part, outcomes=outcomes_of(part.name, curves)) for part in parts]
        write_page(page, judged, tasks, stand_in)
    print(f"figures and the table of published shapes: {page}", flush=True)
    return page


def outcomes_of(model: str, curves: Mapping[str, Mapping[str, Curves]]) -> list[tuple[Shape, Mapping[str, Outcome]]]:
    """What a model's curves say of the published shapes, task by task.

    Args:
        curves: of every model that has been run, by task.
    """
    found = list[tuple[Shape, Mapping[str, Outcome]]]()
    for shape in SHAPES:
        by_task = dict[str, Outcome]()
        for task in curves[model]:
            told = {name: own[task] for name, own in curves.items() if task in own}
            outcome = judge(shape, model, told)
            if outcome is not None:
                by_task[task] = outcome
        if by_task:
            found.append((shape, by_task))
    return found


def _part(model: StudyModel, result: SweepResult, out: Path) -> ModelPart:
    """All but what its curves say of the published shapes."""
    folder = out / f"{model.name}-figures"
    folder.mkdir(exist_ok=True)
    figures = draw_figures(result.summary, folder)
    tracking = result.folder / "figures" / "answer_tracking.png"
    answered = len(result.rows[["task", "question_id"]].drop_duplicates())
    return ModelPart(
        name=model.name,
        line=f"{answered} questions, windows of {model.window} layers, prompt {model.template}.",
        outcomes=(),
        figures=figures | ({"answer_tracking": tracking} if tracking.exists() else {}),
        report=f"{result.folder.relative_to(out)}/report.html",
    )


if __name__ == "__main__":
    sys.exit(main())
