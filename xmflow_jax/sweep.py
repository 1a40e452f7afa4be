"""The command `python -m xmflow_jax.sweep`: an attention-knockout study, from one line to its figures."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from xmflow_jax.cli.frame import prepare_process, progress_bar, run_command, say
from xmflow_jax.cli.sweep_arguments import parse_arguments
from xmflow_jax.machine.compiled_cache import remove_unfinished_programs
from xmflow_jax.machine.mesh import check_mesh, parse_mesh
from xmflow_jax.machine.processes import Processes, gather, join, share
from xmflow_jax.study.options import SweepOptions, check_options

if TYPE_CHECKING:  # What takes seconds to import is imported where it is used, so that --help answers at once.
    import pandas as pd

    from xmflow_jax.analysis.model_shape import ModelShape
    from xmflow_jax.run.folder import RunFolder
    from xmflow_jax.study.answer import Setting
    from xmflow_jax.study.memory_fit import Fit
    from xmflow_jax.study.task_studies import TaskStudy

Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves: the run folder, its tables as data frames, and the figures' files.

    The tables are empty where it stopped before the work; a preview's figures are the images it drew.
    """

    folder: Path
    rows: "pd.DataFrame"
    summary: "pd.DataFrame"
    figures: tuple[Path, ...]


def run_sweep(
    say: Say = lambda line: None, progress: bool = False, colour: bool = False, **options: Any
) -> SweepResult:
    """Run a study, or go on with it where its run folder holds a part of it.

    Args:
        say: called with each line of news; by default nothing is printed.
        progress: show a bar with the time left on standard error.
        colour: show a preview's roles as ANSI colours.
        options: the fields of `SweepOptions`.

    Raises:
        XmflowError: an option, the checkpoint, the data or the run folder cannot be used.
    """
    chosen = SweepOptions(**options)
    check_options(chosen)
    with ExitStack() as stack:
        return _run(chosen, say, progress, colour, stack)


def _run(options: SweepOptions, say: Say, progress: bool, colour: bool, stack: ExitStack) -> SweepResult:
    """Everything is examined first: options, machine, folder, data, model; weights are read after that."""
    import jax

    from xmflow_jax.machine.memory import memory_planned
    from xmflow_jax.run.folder import check_folder, finished_questions, free_bytes, open_run
    from xmflow_jax.study.answer import Setting, answer_task
    from xmflow_jax.study.batches import waiting_line
    from xmflow_jax.study.estimate import check_space, estimate_work, usable_prompts
    from xmflow_jax.study.inputs import read_inputs, run_configuration, short_name
    from xmflow_jax.study.model_shape import model_shape
    from xmflow_jax.study.preview import write_preview
    from xmflow_jax.study.question_card import cards_per_task, question_card
    from xmflow_jax.study.session import default_batch_size, device_layout, free_memory, provenance
    from xmflow_jax.study.task_studies import plan_studies

    mesh = None if options.mesh is None else parse_mesh(options.mesh)
    processes = Processes()
    if options.distributed:
        told = (options.coordinator, options.processes, options.process)
        processes = join(*told, 1 if mesh is None else mesh["model"])
        if not processes.first:
            say, progress = _quiet, False
    if mesh is not None:
        check_mesh(mesh, len(jax.devices()))
    out = options.out or Path("runs") / f"{short_name(options.model)}-{short_name(options.data[0])}"
    check_folder(out)
    scratch = Path(stack.enter_context(TemporaryDirectory(prefix="xmflow-")))
    inputs = read_inputs(options, scratch, say)
    if options.preview is not None:
        asked = (inputs.questions, inputs.processing, inputs.template)
        return _without_work(out, write_preview(*asked, options.preview, out / "preview", say, colour))
    on_cpu = jax.default_backend() == "cpu"
    identity = inputs.checkpoint.identify(options.dtype or ("float32" if on_cpu else "bfloat16"))
    studies = plan_studies(inputs.questions, options, identity.anatomy, say)
    configuration = run_configuration(options, inputs, identity, studies)
    everything, studies = studies, processes.own_share(studies)
    check_folder(out, configuration)
    largest_task = max((len(study.questions) for study in studies), default=1)
    layout = device_layout(options.mesh, identity, largest_task, processes)
    batch_size = layout.batch_size(options.batch_size or default_batch_size(identity, on_cpu, largest_task))
    if identity.dtype == "float32":
        # A GPU would multiply in TF32 and a TPU in bfloat16: float32 means float32 here.
        stack.enter_context(jax.default_matmul_precision("highest"))

    done = finished_questions(out)
    prompts = {study.task: usable_prompts(study.questions, inputs.processing, inputs.template) for study in studies}
    typical = {task: prompt for task, own in prompts.items() if (prompt := next(own, None)) is not None}
    estimate = estimate_work(studies, typical, done, identity.config, identity.dtype, batch_size)
    check_space(estimate.bytes, free_bytes(out), out)
    say(estimate.line())
    if layout.line:
        say(layout.line)
    if options.dry_run:
        return _without_work(out)

    if layout.mesh is not None:
        stack.enter_context(jax.set_mesh(layout.mesh))
    stack.enter_context(memory_planned(partial(free_memory, layout)))
    shape = model_shape(identity, next(iter(typical.values()), None))
    planned = {study.task: len(study.questions) for study in everything}
    session = provenance(options, batch_size, shape, planned)
    with share(out, processes, lambda folder: open_run(folder, configuration, session), scratch) as run:
        done = run.finished_questions() | finished_questions(out)
        waits: list[float] = []
        setting = Setting(
            model=inputs.checkpoint.load(identity.dtype, layout.mesh),
            processing=inputs.processing,
            template=inputs.template,
            engine=options.engine,
            select=configuration["select"],
            batch_size=batch_size,
            answer_length=options.answer_length,
            whole_answers=options.whole_answers,
            card=lambda prompt: question_card(prompt, inputs.processing),
            cards=cards_per_task(len(studies)) if processes.first else 0,
            waited=waits.append,
            others=() if processes.first else (out,),
            least_questions=layout.least_questions,
            say=say,
        )
        if options.self_check:
            setting = replace(setting, fit=_self_check(studies, setting, done))
        left = sum((one.task, one.question_id) not in done for study in studies for one in study.questions)
        started = time.perf_counter()
        with progress_bar(left, progress) as advance:
            for study in studies:
                setting = replace(setting, fit=answer_task(study, setting, run, advance))
        if left:
            say(waiting_line(waits, time.perf_counter() - started))
        if not processes.first:
            return _without_work(out)
        gather(run, processes)
        return _report(run, everything, shape, options.seed, say)


def _quiet(line: str) -> None:
    """Of several processes the first one speaks."""


def _without_work(out: Path, figures: tuple[Path, ...] = ()) -> SweepResult:
    """A sweep that stopped before it computed anything."""
    import pandas as pd

    from xmflow_jax.analysis.summary import SUMMARY_COLUMNS
    from xmflow_jax.run.folder import ROW_SCHEMA

    return SweepResult(
        out, pd.DataFrame(columns=ROW_SCHEMA.names), pd.DataFrame(columns=list(SUMMARY_COLUMNS)), figures
    )


def _self_check(studies: "Sequence[TaskStudy]", setting: "Setting", done: set[tuple[str, str]]) -> "Fit | None":
    """On the first question that is left and can be used; without one there is nothing to compute either.

    Returns:
        What fits the device's memory, as far as this tells.
    """
    from xmflow_jax.study.answer import check_prompt
    from xmflow_jax.study.estimate import usable_prompts
    from xmflow_jax.study.memory_fit import Fit, try_smaller
    from xmflow_jax.study.self_check import check_engines

    for study in studies:
        left = [one for one in study.questions if (one.task, one.question_id) not in done]
        prompts = usable_prompts(
            left, setting.processing, setting.template, lambda prompt: check_prompt(prompt, setting)
        )
        if (prompt := next(prompts, None)) is not None:
            length = setting.answer_length if setting.whole_answers else 1
            check = partial(check_engines, setting.model, prompt, study.rows)
            rest = {"answer_length": length, "end_tokens": setting.processing.end_tokens}
            return try_smaller(partial(check, **rest), Fit(setting.batch_size), setting.least_questions, setting.say)
    return None


def _report(
    run: "RunFolder", studies: "Sequence[TaskStudy]", shape: "ModelShape | None", seed: int, say: Say
) -> SweepResult:
    """Summary and figures, from the landed rows alone."""
    from xmflow_jax.report.rebuild import rebuild
    from xmflow_jax.run.folder import NOT_SELECTED, SET_ASIDE
    from xmflow_jax.study.task_studies import missing_pathways

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


def _write_nothing() -> None:
    """A dry run leaves nothing behind, not even in the cache of compiled programs."""
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input or a full disk (one line on standard error), 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        options = parse_arguments(arguments)
        prepare_process()
        if options.dry_run:
            _write_nothing()
        else:
            remove_unfinished_programs()
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        run_sweep(say=say, progress=True, colour=colour, **vars(options))

    return run_command("sweep", arguments, work)


if __name__ == "__main__":
    sys.exit(main())
