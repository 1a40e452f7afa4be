"""A sweep in three stages, between its options and its run folder: examine everything, estimate the work, answer.

Weights are read in the last stage alone, so that whatever is wrong with options, data, model or folder is told at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.question import Question
from xmflow_jax.machine.layout import DeviceLayout, default_dtype
from xmflow_jax.machine.processes import Processes
from xmflow_jax.run.folder import RunFolder, check_folder, finished_questions, free_bytes
from xmflow_jax.study.answer import answer_task
from xmflow_jax.study.batches import waiting_line
from xmflow_jax.study.estimate import Estimate, check_space, estimate_work, usable_prompts
from xmflow_jax.study.foreseen import Foreseen, Reading, check_gold, check_usable, foresee, unmatched_lines
from xmflow_jax.study.inputs import Inputs, run_configuration
from xmflow_jax.study.memory_fit import Bounds, Portion, check_within_memory
from xmflow_jax.study.model_shape import model_shape
from xmflow_jax.study.options import CORRECT, SweepOptions
from xmflow_jax.study.question_card import cards_per_task, question_card
from xmflow_jax.study.self_check import check_engines
from xmflow_jax.study.session import examined, lay_out, load_prompted, provenance
from xmflow_jax.study.setting import (
    Batching,
    Cards,
    KnockoutSettings,
    News,
    PromptedModel,
    Setting,
    check_prompt,
)
from xmflow_jax.study.task_studies import TaskStudy, plan_studies
from xmflow_jax.weights.load import ModelIdentity

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class ExaminedSweep:
    """A sweep whose options, data, model and folder have been looked at, before any weights are read.

    Attributes:
        options: what is asked for.
        inputs: questions, processing and prompt.
        identity: the model.
        configuration: what decides the results, for `run.json`.
        everything: the studies of all processes.
        studies: this process's share of them.
        layout: the devices.
        batching: questions at a time.
    """

    options: SweepOptions
    inputs: Inputs
    identity: ModelIdentity
    configuration: Mapping[str, Any]
    everything: Sequence[TaskStudy]
    studies: Sequence[TaskStudy]
    layout: DeviceLayout
    batching: Batching


def examine(options: SweepOptions, inputs: Inputs, out: Path, processes: Processes, say: Say) -> ExaminedSweep:
    """Look at the model, plan the studies and lay out the devices.

    Args:
        inputs: what the options name.
        out: the run folder.
        processes: the processes of the run.
        say: told of every pathway that a task must leave out.

    Raises:
        XmflowError: the checkpoint, an option or the run folder cannot be used.
    """
    identity = inputs.checkpoint.identify(options.dtype or default_dtype())
    everything = plan_studies(inputs.questions, options, identity.anatomy, say)
    configuration = run_configuration(options, inputs, identity, everything)
    check_folder(out, configuration)
    studies = [replace(study, questions=tuple(processes.own_share(study.questions))) for study in everything]
    largest_task = max((len(study.questions) for study in studies), default=1)
    layout, batching = lay_out(options, identity, largest_task, largest_task, processes)
    return ExaminedSweep(options, inputs, identity, configuration, everything, studies, layout, batching)


def reading_of(sweep: ExaminedSweep) -> Reading:
    """What a question is put to the model with."""
    inputs = sweep.inputs
    return Reading(inputs.processing, inputs.template, sweep.identity.anatomy, sweep.options.answer_length)


def typical_prompts(sweep: ExaminedSweep) -> dict[str, PreparedQuestion]:
    """The first usable prompt of each task; tasks without one are left out."""
    inputs, check = sweep.inputs, reading_of(sweep).check_prompt
    prompts = {
        study.task: usable_prompts(study.questions, inputs.processing, inputs.template, check)
        for study in sweep.studies
    }
    return {task: prompt for task, own in prompts.items() if (prompt := next(own, None)) is not None}


def foreseen(sweep: ExaminedSweep, typical: Mapping[str, PreparedQuestion], out: Path, say: Say) -> Foreseen:
    """What is known of the questions before any work.

    Args:
        typical: a prompt of each task that has a usable one.
        out: the run folder.
        say: told of every file with gold answers that no answer can match.

    Raises:
        DataError: nothing can be used, and the run folder holds nothing that was finished.
    """
    inputs, done = sweep.inputs, finished_questions(out)
    if not done:
        if not typical:
            check_usable(inputs.questions, reading_of(sweep))
        if sweep.configuration["select"] == CORRECT:
            check_gold(inputs.questions, scorer_of)
    found = foresee(inputs.questions, done, reading_of(sweep), scorer_of)
    for line in unmatched_lines(found.unmatched, inputs.questions, inputs.file_of, scorer_of):
        say(line)
    return found


def scorer_of(question: Question) -> str:
    """The name of the rule that the question's answer is scored by."""
    return question.scorer


def estimate(sweep: ExaminedSweep, typical: Mapping[str, PreparedQuestion], known: Foreseen, out: Path) -> Estimate:
    """What is left to do.

    Args:
        typical: a prompt of each task.
        known: which questions will be set aside.
        out: the run folder.

    Raises:
        RunFolderError: the disk cannot hold the results.
    """
    identity = sweep.identity
    done = finished_questions(out)
    work = estimate_work(sweep.studies, typical, done, identity, sweep.batching.size, known.unusable)
    check_space(work.bytes, free_bytes(out), out)
    return work


def shape_of(sweep: ExaminedSweep, typical: Mapping[str, PreparedQuestion]) -> ModelShape | None:
    """What the report must know of model and prompt; None where no question can be used."""
    return model_shape(sweep.identity, next(iter(typical.values()), None))


def session_entry(sweep: ExaminedSweep, shape: ModelShape | None, command: str | None) -> dict[str, Any]:
    """This session's entry in `run.json`.

    Args:
        command: the command line; None where the questions are the caller's own records.
    """
    planned = {study.task: len(study.questions) for study in sweep.everything}
    made = provenance(sweep.batching.size, sweep.options.self_check, shape, command, planned)
    return {**made, **examined(sweep.inputs)}


def answer(
    sweep: ExaminedSweep,
    processes: Processes,
    run: RunFolder,
    out: Path,
    say: Say,
    progress: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> None:
    """Read the weights, check the engines, and answer all questions that the run folder does not hold.

    Args:
        run: takes this process's rows.
        out: the run's own folder, whose questions are done as well.
        progress: shows how many of so many questions are done, within its context.

    Raises:
        SelfCheckError: the engines differ.
        OptionError: not even one configuration fits the devices' memory.
    """
    options = sweep.options
    done = run.finished_questions() | finished_questions(out)
    prompted = load_prompted(sweep.inputs, sweep.identity.dtype, sweep.layout.mesh, options.answer_length)
    settings = KnockoutSettings(options.engine, sweep.configuration["select"], options.whole_answers)
    portion = None
    if options.self_check:
        portion = check_first_question(sweep, prompted, done, say)
    cards = Cards(partial(question_card, processing=sweep.inputs.processing), cards_per_task(len(sweep.studies)))
    left = sum((one.task, one.question_id) not in done for study in sweep.studies for one in study.questions)
    waits: list[float] = []
    started = time.perf_counter()
    with progress(left) as advance:
        setting = Setting(
            prompted,
            settings,
            sweep.batching,
            cards if processes.first else None,
            () if processes.first else (out,),
            News(advance, waits.append, say),
        )
        for study in sweep.studies:
            portion = answer_task(study, setting, run, portion)
    if waits:
        say(waiting_line(waits, time.perf_counter() - started))


def check_first_question(
    sweep: ExaminedSweep, prompted: PromptedModel, done: set[tuple[str, str]], say: Say
) -> Portion | None:
    """Check the engines on the first question that is left and can be used.

    Args:
        done: `(task, question_id)` of the questions that need no more work.
        say: told when fewer questions at a time are tried.

    Returns:
        What fits the device's memory, as far as this tells; None where no question is left to compute.

    Raises:
        SelfCheckError: the engines differ.
    """
    options, processing = sweep.options, prompted.processing
    for study in sweep.studies:
        left = [one for one in study.questions if (one.task, one.question_id) not in done]
        prompts = usable_prompts(left, processing, prompted.template, partial(check_prompt, prompted=prompted))
        if (prompt := next(prompts, None)) is not None:
            check = partial(
                check_engines,
                prompted.model,
                prompt,
                study.rows,
                answer_length=options.answer_length if options.whole_answers else 1,
                end_tokens=processing.end_tokens,
            )
            bounds = Bounds(sweep.batching.least_questions, say=say)
            return check_within_memory(check, Portion(sweep.batching.size), bounds)
    return None
