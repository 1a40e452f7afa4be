"""`python -m xmflow_jax.report RUN [RUN ...]`: everything that follows from run folders anew, without a model.

Of each folder: summary, recommendation, figures and `report.html`; of several together a page and figures
that compare them.
"""

if __name__ == "__main__":
    from xmflow_jax.cli.early import end_quietly

    end_quietly()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmflow_jax.cli.frame import complain, run_command, say
from xmflow_jax.cli.sweep_arguments import Parser
from xmflow_jax.errors import OptionError, RunFolderError


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input or a full disk (one line on standard error), 130 interrupted.

    A folder that is damaged in part is bad input too, but its report is made of the rest, and says what is missing.
    """
    given = sys.argv[1:] if argv is None else argv
    wrong: list[str] = []

    def work() -> None:
        arguments = _arguments(given)
        wrong.extend(rebuild_runs(arguments.runs, arguments.tau, arguments.out, arguments.depth))

    code = run_command("report", given, work, after_interrupt="the rows are as they were; again: {command}")
    if wrong and code == 0:
        complain(f"error: {'; '.join(wrong)}")
        return 2
    return code


def rebuild_runs(folders: Sequence[Path], tau: float, out: Path, depth: str | None = None) -> list[str]:
    """Rebuild each run that can be read and, of two or more, the comparison; returns what is wrong with the others.

    Raises:
        RunFolderError: the comparison cannot be written.
    """
    # Imported here because pandas and matplotlib take seconds to import.
    from xmflow_jax.report.comparison import write_comparison
    from xmflow_jax.report.page.data import unfinished
    from xmflow_jax.report.rebuild import rebuild_from_folder
    from xmflow_jax.run.folder import check_folder

    if len(folders) > 1:  # before the work, not after it
        check_folder(out)
    wrong: list[str] = []
    pages: dict[Path, dict[str, Any]] = {}
    for run in folders:
        try:
            rebuilt = rebuild_from_folder(run, tau)
        except RunFolderError as error:
            wrong.append(str(error))
            continue
        say(f"{run}: {len(rebuilt.figures)} figures in {run / 'figures'}, report {rebuilt.page}")
        for line in filter(None, (*rebuilt.lines, unfinished(rebuilt.data["progress"]))):
            say(line)
        if rebuilt.damage:
            wrong.append(f"{'; '.join(rebuilt.damage)} (the report {rebuilt.page} is made of the rest)")
        pages[run] = rebuilt.data
    if len(pages) > 1:
        made = write_comparison(out, pages, depth)
        say(f"comparison of {len(pages)} runs {made.page}, {len(made.figures)} figures in {out / 'figures'}")
    return wrong


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m xmflow_jax.report",
        description="Summary, recommendation, figures and report.html anew from run folders, without a model.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--tau", type=float, default=5.0, help="points that a critical layer costs (default: 5)")
    parser.add_argument("--out", type=Path, help="folder for what compares several runs (default: comparison)")
    parser.add_argument(
        "--depth",
        choices=("layer", "percent"),
        help="how the comparison tells depth (default: percent if models differ)",
    )
    arguments = parser.parse_args(argv)
    arguments.runs = list({run.resolve(): run for run in reversed(arguments.runs)}.values())[::-1]
    if not 0 <= arguments.tau <= 100:
        raise OptionError(f"--tau {arguments.tau:g} is not between 0 and 100 points")
    if arguments.out is not None and len(arguments.runs) == 1:
        raise OptionError(
            f"--out {arguments.out} is the folder for comparing several runs; give two or more run folders"
        )
    arguments.out = arguments.out or Path("comparison")
    if (arguments.out / "run.json").exists():
        raise OptionError(
            f"--out {arguments.out} holds a run, whose figures would be written over; give another folder"
        )
    return arguments


if __name__ == "__main__":
    sys.exit(main())
