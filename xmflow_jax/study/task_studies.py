"""Which questions, pathways and knockouts the study of each task has, before anything is computed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from xmflow_jax.analysis.curve import Curve
from xmflow_jax.analysis.pruning import PATHWAY, TO_END
from xmflow_jax.data.prompt import available_roles
from xmflow_jax.data.question import Question
from xmflow_jax.data.roles import IMAGE_ROLES, ROLES
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.arrays import check_range
from xmflow_jax.knockout.output_places import OutputPlace, parse_output_places
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway, parse_pathway, parse_pathways
from xmflow_jax.knockout.study_rows import StudyRow, keep_only_study, output_study, pathway_study
from xmflow_jax.knockout.windows import default_width
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.study.options import SweepOptions

# From which layer on can the image be dropped altogether? The recommendation is made from this one.
PRUNING: Final = (parse_pathway(PATHWAY), TO_END)


@dataclass(frozen=True)
class TaskStudy:
    """One task's questions, and the knockouts that all of them run under.

    Attributes:
        task: such as "ChooseAttr".
        questions: in the order of their source.
        rows: one for each knockout: a pathway blocked around one layer.
    """

    task: str
    questions: tuple[Question, ...]
    rows: tuple[StudyRow, ...]


def choose_samples(questions: Sequence[Question], samples: int | None, seed: int) -> list[Question]:
    """At most `samples` questions, drawn by `seed` as evenly from the tasks as can be.

    Of 10 questions of one task and 1 of another, 4 samples are 3 and 1.

    Returns:
        The questions in the order in which they came.
    """
    if samples is None or samples >= len(questions):
        return list(questions)
    by_task: dict[str, list[int]] = {}
    for index in np.random.default_rng(seed).permutation(len(questions)):
        by_task.setdefault(questions[index].task, []).append(int(index))
    # In turns: the first of every task, the second of every task, ...
    turns = sorted((turn, task, index) for task, indexes in by_task.items() for turn, index in enumerate(indexes))
    return [questions[index] for index in sorted(index for _, _, index in turns[:samples])]


def wanted_pathways(options: SweepOptions) -> tuple[tuple[Pathway, str], ...]:
    """The pathways asked for; by default the study's six and `Image->All@to-end`.

    Raises:
        OptionError: a pathway cannot be parsed.
    """
    if options.pathways is not None:
        return parse_pathways(options.pathways, options.style)
    return tuple(dict.fromkeys((*((pathway, options.style) for pathway in STUDY_PATHWAYS), PRUNING)))


@dataclass(frozen=True)
class Asked:
    """What the options ask to run in every task.

    Attributes:
        pathways: those that are blocked.
        kept: those that everything else is blocked beside.
        outputs: those that are set to zero.
    """

    pathways: tuple[tuple[Pathway, str], ...]
    kept: tuple[tuple[Pathway, str], ...]
    outputs: tuple[tuple[OutputPlace, str], ...]

    def in_task(self, roles: Collection[str]) -> "Asked":
        """Those of which a task's questions tell the roles."""
        pathways, kept = (
            tuple(part for part in some if {part[0].source, part[0].target} <= set(roles))
            for some in (self.pathways, self.kept)
        )
        return Asked(pathways, kept, tuple(part for part in self.outputs if part[0].role in roles))


def asked_knockouts(options: SweepOptions, model: Anatomy) -> Asked:
    """What the options name, by default the study's pathways alone.

    Raises:
        OptionError: a pathway or an output cannot be parsed, or the model has no such output.
    """
    kept = () if options.keep_only is None else parse_pathways(options.keep_only, options.style)
    outputs = () if options.zero_output is None else parse_output_places(options.zero_output, options.style)
    for place, _ in outputs:
        if place.sublayer == "cross" and model.image_in_prompt:
            raise OptionError(
                f"--zero-output {place}: the model has no cross-attention; it reads the image in its prompt"
            )
        if place.role in IMAGE_ROLES and not model.image_in_prompt:
            raise OptionError(f"--zero-output {place}: the model's text layers have no positions of the image")
    return Asked(wanted_pathways(options), kept, outputs)


def plan_studies(
    questions: Sequence[Question],
    options: SweepOptions,
    model: Anatomy,
    say: Callable[[str], None],
) -> list[TaskStudy]:
    """One study for each task, with the knockouts that all of its questions have data for.

    Args:
        questions: of all tasks.
        options: pathways, other knockouts, window, heads and controls.
        model: the model's stacks and sites.
        say: told of every pathway that a task must leave out.

    Raises:
        OptionError: no task supports a pathway that was asked for, or the window or a head is not the model's.
    """
    check_range("head", options.heads or (), model.main.heads)
    asked = asked_knockouts(options, model)
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        tasks.setdefault(question.task, []).append(question)
    roles = {task: available_roles(own, model.views) for task, own in tasks.items()}
    _refuse_unknown_roles(asked, options, roles, say)
    studies = []
    for task, own in tasks.items():
        if rows := _rows(asked.in_task(roles[task]), options, model):
            studies.append(TaskStudy(task, tuple(own), rows))
    return studies


def _refuse_unknown_roles(
    asked: Asked, options: SweepOptions, roles: Mapping[str, Collection[str]], say: Callable[[str], None]
) -> None:
    """Say what some tasks cannot have.

    Raises:
        OptionError: no task can have what an option names.
    """
    wanted: list[tuple[str | None, str, set[str]]] = [
        (options.pathways and "--pathways", str(one), {one.source, one.target}) for one, _ in asked.pathways
    ]
    wanted += [("--keep-only", str(one), {one.source, one.target}) for one, _ in asked.kept]
    wanted += [("--zero-output", str(one), {one.role}) for one, _ in asked.outputs]
    for option, name, needed in wanted:
        lacking = {task for task, known in roles.items() if not needed <= set(known)}
        if lacking == set(roles) and option is not None:
            possible = [role for role in ROLES if any(role in known for known in roles.values())]
            raise OptionError(f"{option}: the data do not tell {name}; they tell the roles {', '.join(possible)}")
        if lacking:
            say(f"{name} is left out of {', '.join(sorted(lacking))}, whose questions do not tell its roles")


def _rows(asked: Asked, options: SweepOptions, model: Anatomy) -> tuple[StudyRow, ...]:
    layers = model.main.layers
    width = default_width(layers) if options.window is None else options.window
    heads = range(model.main.heads) if options.heads is None else options.heads
    drawn = (options.controls, options.seed, tuple(heads) if options.each_head else ())
    return (
        *pathway_study(asked.pathways, model, width, options.mode, options.heads, *drawn),
        *keep_only_study(asked.kept, model, width),
        *output_study(asked.outputs, layers, width),
    )


def missing_pathways(rows: pd.DataFrame, studies: Sequence[TaskStudy]) -> list[str]:
    """A line for people about each pathway of which some answered questions have no rows.

    Args:
        rows: the run's result rows (`xmflow_jax.run.folder.read_rows`).
        studies: what was asked.
    """
    answered = rows.groupby("task")["question_id"].nunique()
    having = rows.groupby(["task", "kind", "pathway", "style"])["question_id"].nunique()
    lines = []
    for study in studies:
        total = int(answered.get(study.task, 0))
        curves = [Curve(row.kind, row.mode, str(row.pathway), row.style) for row in study.rows]
        for curve in dict.fromkeys(curves):
            without = total - int(having.get((study.task, curve.kind, curve.pathway, curve.style), 0))
            if total and without == total:
                why = "impossible in this prompt: no target comes after a source"
            elif without:
                why = (
                    f"left out of {without} of {total} questions, where a role has no position or no target comes after"
                )
            else:
                continue
            lines.append(f"{study.task}: {curve.subject} is {why}")
    return lines
