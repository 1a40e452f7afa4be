"""The command `python -m xmflow_jax.evaluate`: accuracy of a model on a data set, without knockouts.

run.json                       configuration, digests, a provenance entry per session, set-aside questions
results/answers-NNNNN.parquet  one row per question (`ANSWER_SCHEMA`), landed batch by batch
skipped/skipped-NNNNN.parquet  questions set aside, with their reasons
accuracy.csv                   accuracy and its 95 % interval, overall, by task, question type and answer type
predictions.json               the results file that VQA's or GQA's server takes, where all questions are theirs
"""

if __name__ == "__main__":
    from xmflow_jax.cli.early import end_quietly

    end_quietly()

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmflow_jax.cli.evaluate_arguments import parse_evaluate_arguments
from xmflow_jax.cli.frame import prepare_process, progress_bar, run_command, say
from xmflow_jax.machine.compiled_cache import remove_unfinished_programs
from xmflow_jax.machine.scratch import scratch_folder
from xmflow_jax.study.evaluation_options import EvaluationOptions, evaluation_options
from xmflow_jax.study.shown_images import OWN

if TYPE_CHECKING:  # What takes seconds to import is imported where it is used, so that --help answers at once.
    import pandas as pd

    from xmflow_jax.data.question import Question
    from xmflow_jax.run.folder import RunFolder

Say = Callable[[str], None]

# Reasons of questions set aside that are printed; `run.json` has all of them.
REASONS: Final = 5


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation leaves.

    Attributes:
        folder: the run folder.
        rows: one per answered question (`xmflow_jax.run.folder.ANSWER_SCHEMA`).
        accuracy: the table of `xmflow_jax.analysis.accuracy.accuracy_table`, in percent; empty where no question has a
            gold answer.
        predictions: the file for the benchmark's server; None where the questions are not all of one such benchmark.
        set_aside: questions that could not be used, with their reasons.
    """

    folder: Path
    rows: "pd.DataFrame"
    accuracy: "pd.DataFrame"
    predictions: Path | None
    set_aside: "pd.DataFrame"


def evaluate_model(say: Say = lambda line: None, progress: bool = False, **options: Any) -> EvaluationResult:
    """Evaluate a model, or go on with it where its run folder holds a part of it.

    Args:
        say: called with each line of news; by default nothing is printed.
        progress: show a bar with the time left on standard error.
        options: the keywords of `xmflow_jax.study.evaluation_options.evaluation_options`: those fields of
            `SweepOptions` that are not about knockouts, `scorer`, `blank_images` and `shuffle_images`.

    Raises:
        XmflowError: an option, the checkpoint, the data or the run folder cannot be used.
    """
    with ExitStack() as stack:
        return _run(evaluation_options(**options), say, progress, stack)


def _run(options: EvaluationOptions, say: Say, progress: bool, stack: ExitStack) -> EvaluationResult:
    """Everything is examined first: options, folder, data, model; weights are read after that."""
    from xmflow_jax.machine.backend import check_devices, check_settings

    check_settings()
    check_devices()
    from xmflow_jax.machine.layout import default_dtype, devices_in_force, full_precision
    from xmflow_jax.run.folder import check_folder, finished_questions, open_run
    from xmflow_jax.study.batches import waiting_line
    from xmflow_jax.study.estimate import count
    from xmflow_jax.study.evaluation import answer_questions, by_task, evaluation_configuration, foreseen
    from xmflow_jax.study.inputs import read_inputs, usual_folder
    from xmflow_jax.study.session import examined, lay_out, load_prompted, machine
    from xmflow_jax.study.setting import News
    from xmflow_jax.study.shown_images import SHUFFLED, shuffled_images

    shared = options.shared
    shown = "" if options.shown == OWN else f"-{options.shown}"
    out = shared.out or usual_folder(shared.model, shared.data[0], "evaluate-", shown)
    check_folder(out)
    scratch = stack.enter_context(scratch_folder())
    inputs = read_inputs(shared, scratch, say)
    if options.shown == SHUFFLED:
        shuffled_images(inputs.questions, shared.seed)  # refused before any work
    identity = inputs.checkpoint.identify(shared.dtype or default_dtype())
    configuration = evaluation_configuration(options, inputs, identity)
    check_folder(out, configuration)
    known = foreseen(options, inputs, identity.anatomy, finished_questions(out), say)
    largest_task = max((len(own) for own in by_task(inputs.questions).values()), default=1)
    # With nothing blocked there are no configurations to spread over devices, however few questions there are.
    layout, batching = lay_out(shared, identity, largest_task, max(1, len(inputs.questions)))
    stack.enter_context(full_precision(identity.dtype))
    stack.enter_context(devices_in_force(layout))
    with open_run(out, configuration, {**machine(batching.size), **examined(inputs)}) as run:
        done = run.finished_questions()
        left = sum((one.task, one.question_id) not in done for one in inputs.questions)
        asked = f"{count(len(inputs.questions), 'question')}, {len(inputs.questions) - left} of them done"
        say("; ".join((asked, *known.words())))
        if layout.line:
            say(layout.line)
        if left:
            prompted = load_prompted(inputs, identity.dtype, layout.mesh, shared.answer_length)
            waits: list[float] = []
            started = time.perf_counter()
            with progress_bar(left, progress) as advance:
                news = News(advance, waits.append, say)
                answer_questions(inputs.questions, options, prompted, batching, run, news)
            if waits:
                say(waiting_line(waits, time.perf_counter() - started))
        return _report(run, inputs.questions, options, say)


def _report(
    run: "RunFolder", questions: "Sequence[Question]", options: EvaluationOptions, say: Say
) -> EvaluationResult:
    """Accuracies and predictions, from the landed rows alone."""
    from xmflow_jax.analysis.accuracy import accuracy_lines, accuracy_table
    from xmflow_jax.run.parts import write_atomically
    from xmflow_jax.scoring.answers import submission
    from xmflow_jax.study.estimate import count

    run.write_record()
    rows, aside = run.read_answers(), run.read_skipped()
    table = accuracy_table(rows)
    write_atomically(run.path / "accuracy.csv", table.to_csv(index=False).encode())
    predictions = None
    answers = dict(zip(zip(rows["task"], rows["question_id"], strict=True), rows["answer"], strict=True))
    if (submitted := submission(questions, answers)) is not None:
        predictions = run.path / "predictions.json"
        write_atomically(predictions, f"{json.dumps(submitted, ensure_ascii=False)}\n".encode())
    for line in accuracy_lines(table):
        say(line)
    if rows["score"].isna().any():
        say(f"without a gold answer, and in no accuracy: {count(int(rows['score'].isna().sum()), 'question')}")
    if options.shown != OWN:
        say(f"a blind baseline: the images were {'blanked' if options.blank_images else 'shuffled'}")
    say(f"{count(len(rows), 'question')} answered, {len(aside)} set aside")
    for reason, number in aside["reason"].value_counts().head(REASONS).items():
        say(f"  {number} set aside: {reason}")
    if len(rest := aside["reason"].value_counts().iloc[REASONS:]):
        say(f"  {rest.sum()} set aside for other reasons, in {run.path / 'run.json'}")
    if predictions is not None and len(aside):
        say(f"{predictions} lacks the questions set aside; a benchmark's server may want all of them")
    say(f"answers {run.path}, accuracy {run.path / 'accuracy.csv'}" + (f", {predictions}" if predictions else ""))
    return EvaluationResult(run.path, rows, table, predictions, aside)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input or a full disk (one line on standard error), 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        options: Mapping[str, Any] = parse_evaluate_arguments(given)
        prepare_process()
        remove_unfinished_programs()
        evaluate_model(say=say, progress=True, **options)

    return run_command("evaluate", given, work)


if __name__ == "__main__":
    sys.exit(main())
