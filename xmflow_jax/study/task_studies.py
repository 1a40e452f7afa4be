"""Which questions, pathways and knockouts the study of each task has, before anything is computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from xmflow_jax.analysis.pruning import PATHWAY, TO_END
from xmflow_jax.data.prompt import available_roles
from xmflow_jax.data.question import Question
from xmflow_jax.data.roles import ROLES
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.arrays import check_range
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway, parse_pathway, parse_pathways
from xmflow_jax.knockout.study_rows import StudyRow, pathway_study
from xmflow_jax.knockout.windows import default_width
from xmflow_jax.nn.interfaces import Anatomy
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


def plan_studies(
    questions: Sequence[Question],
    options: SweepOptions,
    model: Anatomy,
    say: Callable[[str], None],
) -> list[TaskStudy]:
    """One study for each task, with the pathways that all of its questions have data for.

    Args:
        questions: of all tasks.
        options: pathways, window, heads and controls.
        model: the model's stacks and sites.
        say: told of every pathway that a task must leave out.

    Raises:
        OptionError: no task supports a pathway that was asked for, or the window or a head is not the model's.
    """
    cross_attention = not model.image_in_prompt
    width = default_width(model.layers) if options.window is None else options.window
    check_range("head", options.heads or (), model.main.heads)
    heads = range(model.main.heads) if options.heads is None else options.heads
    single_heads = tuple(heads) if options.each_head else ()
    wanted = wanted_pathways(options)
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        tasks.setdefault(question.task, []).append(question)
    roles = {task: available_roles(asked) for task, asked in tasks.items()}
    for pathway, _ in wanted:
        lacking = {task for task in tasks if not {pathway.source, pathway.target} <= set(roles[task])}
        if lacking == set(tasks) and options.pathways is not None:
            possible = [role for role in ROLES if any(role in known for known in roles.values())]
            raise OptionError(f"--pathways: the data do not tell {pathway}; they tell the roles {', '.join(possible)}")
        if lacking:
            say(f"{pathway} is left out of {', '.join(sorted(lacking))}, whose questions do not tell its roles")
    studies = []
    for task, asked in tasks.items():
        pathways = [part for part in wanted if {part[0].source, part[0].target} <= set(roles[task])]
        drawn = (options.controls, options.seed, single_heads)
        rows = pathway_study(pathways, model.layers, width, options.mode, options.heads, cross_attention, *drawn)
        if rows:
            studies.append(TaskStudy(task, tuple(asked), rows))
    return studies


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
        for kind, pathway, style in dict.fromkeys((row.kind, str(row.pathway), row.style) for row in study.rows):
            without = total - int(having.get((study.task, kind, pathway, style), 0))
            if total and without == total:
                why = "impossible in this prompt: no target comes after a source"
            elif without:
                why = (
                    f"left out of {without} of {total} questions, where a role has no position or no target comes after"
                )
            else:
                continue
            lines.append(f"{study.task}: {pathway} is {why}")
    return lines
