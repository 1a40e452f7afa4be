"""`python -m xmflow_jax.report RUN [RUN ...]`: summary, recommendation and figures anew, without a model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xmflow_jax.errors import XmflowError


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 a folder holds no run that can be read (one line on standard error)."""
    parser = argparse.ArgumentParser(prog="python -m xmflow_jax.report", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--tau", type=float, default=5.0, help="points that a critical layer costs (default: 5)")
    arguments = parser.parse_args(argv)
    # Imported here because pandas and matplotlib take seconds to import.
    from xmflow_jax.report.rebuild import rebuild_from_folder

    try:
        for run in arguments.runs:
            rebuilt = rebuild_from_folder(run, arguments.tau)
            print(f"{run}: {len(rebuilt.figures)} figures in {run / 'figures'}")
            for line in rebuilt.lines:
                print(line)
    except XmflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
