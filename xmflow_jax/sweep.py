"""The command `python -m xmflow_jax.sweep`: an attention-knockout study, from one line to its figures."""

if __name__ == "__main__":
    from xmflow_jax.cli.early import end_quietly

    end_quietly()

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmflow_jax.cli.frame import prepare_process, progress_bar, run_command, say
from xmflow_jax.cli.replay import command_line
from xmflow_jax.cli.sweep_arguments import parse_sweep_arguments
from xmflow_jax.errors import DataError
from xmflow_jax.machine.compiled_cache import remove_unfinished_programs
from xmflow_jax.machine.mesh import check_mesh, parse_mesh
from xmflow_jax.machine.processes import ALONE, Processes, join
from xmflow_jax.machine.scratch import scratch_folder
from xmflow_jax.study.options import SweepOptions, check_options, sweep_options

if TYPE_CHECKING:  # What takes seconds to import is imported where it is used, so that --help answers at once.
    import pandas as pd

    from xmflow_jax.analysis.model_shape import ModelShape
    from xmflow_jax.run.folder import RunFolder
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
        options: the fields of `SweepOptions`; values may be looser, see `sweep_options`.

    Raises:
        XmflowError: an option, the checkpoint, the data or the run folder cannot be used.
    """
    chosen = sweep_options(**options)
    check_options(chosen)
    with ExitStack() as stack:
        return _run(chosen, say, progress, colour, stack)


def _run(options: SweepOptions, say: Say, progress: bool, colour: bool, stack: ExitStack) -> SweepResult:
    """Everything is examined first: options, machine, folder, data, model; weights are read after that."""
    from xmflow_jax.machine.backend import check_devices, check_settings

    check_settings()
    from xmflow_jax.machine.layout import devices_in_force, full_precision
    from xmflow_jax.run.folder import check_folder, finished_questions, open_run
    from xmflow_jax.run.sharing import gather, share
    from xmflow_jax.study import sweeping
    from xmflow_jax.study.foreseen import check_images
    from xmflow_jax.study.inputs import read_inputs, usual_folder
    from xmflow_jax.study.preview import write_preview

    if options.preview is None and not options.distributed:
        check_devices()
    processes = _join(options)
    if not processes.first:
        say, progress = _quiet, False
    out = options.out or usual_folder(options.model, options.data[0])
    check_folder(out)
    scratch = stack.enter_context(scratch_folder())
    inputs = read_inputs(options, scratch, say)
    if not finished_questions(out):
        check_images(inputs.questions)
    if options.preview is not None:
        asked = (inputs.questions, inputs.processing, inputs.template)
        drawn = write_preview(*asked, options.preview, out / "preview", say, colour)
        if not drawn:
            raise DataError(f"none of the {len(inputs.questions)} question(s) can be shown; the lines above say why")
        return _without_work(out, drawn)
    sweep = sweeping.examine(options, inputs, out, processes, say)
    stack.enter_context(full_precision(sweep.identity.dtype))
    typical = sweeping.typical_prompts(sweep)
    known = sweeping.foreseen(sweep, typical, out, say)
    say("; ".join((sweeping.estimate(sweep, typical, known, out).line(), *known.words())))
    if sweep.layout.line:
        say(sweep.layout.line)
    if options.dry_run:
        return _without_work(out)
    stack.enter_context(devices_in_force(sweep.layout))
    shape = sweeping.shape_of(sweep, typical)
    entry = sweeping.session_entry(sweep, shape, command_line(options))
    with share(out, processes, lambda folder: open_run(folder, sweep.configuration, entry), scratch) as run:
        sweeping.answer(sweep, processes, run, out, say, partial(progress_bar, show=progress))
        if not processes.first:
            return _without_work(out)
        gather(run, processes)
        return _report(run, sweep.everything, shape, options.seed, say)


def _join(options: SweepOptions) -> Processes:
    """Join the other processes of a distributed run, and check that the machine can give the mesh.

    Raises:
        OptionError: no processes are found, or the machine has too few devices.
    """
    mesh = None if options.mesh is None else parse_mesh(options.mesh)
    processes = ALONE
    if options.distributed:
        told = (options.coordinator, options.processes, options.process)
        processes = join(*told, 1 if mesh is None else mesh["model"])
    if mesh is not None:
        import jax

        check_mesh(mesh, len(jax.devices()))
    return processes


def _quiet(line: str) -> None:
    """Say nothing: of several processes process 0 alone speaks."""


def _without_work(out: Path, figures: tuple[Path, ...] = ()) -> SweepResult:
    """A sweep that stopped before it computed anything."""
    import pandas as pd

    from xmflow_jax.analysis.summary import SUMMARY_COLUMNS
    from xmflow_jax.run.folder import ROW_SCHEMA

    return SweepResult(
        out, pd.DataFrame(columns=ROW_SCHEMA.names), pd.DataFrame(columns=list(SUMMARY_COLUMNS)), figures
    )


def _report(
    run: "RunFolder", studies: "Sequence[TaskStudy]", shape: "ModelShape | None", seed: int, say: Say
) -> SweepResult:
    """Summary and figures, from the landed rows alone."""
    from xmflow_jax.report.rebuild import rebuild
    from xmflow_jax.run.folder import NOT_SELECTED, SET_ASIDE
    from xmflow_jax.study.estimate import count
    from xmflow_jax.study.task_studies import missing_pathways

    run.write_record()
    rows, skipped = run.read_rows(), run.read_skipped()
    rebuilt = rebuild(run.path, rows, shape, seed)
    answered = len(rows[["task", "question_id"]].drop_duplicates())
    aside, unselected = (int((skipped["kind"] == kind).sum()) for kind in (SET_ASIDE, NOT_SELECTED))
    for line in missing_pathways(rows, studies):
        say(line)
    usable = f"{count(answered, 'question')} in the results"
    say(f"{usable}, {aside} set aside (reasons in run.json), {unselected} not selected")
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
        options = parse_sweep_arguments(arguments)
        if options.dry_run:
            _write_nothing()
        prepare_process()
        if not options.dry_run:
            remove_unfinished_programs()
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        run_sweep(say=say, progress=True, colour=colour, **vars(options))

    return run_command("sweep", arguments, work)


if __name__ == "__main__":
    sys.exit(main())
