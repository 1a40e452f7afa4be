"""The console script `xmflow`: the same commands as `python -m xmflow_jax.<command>`."""

import sys
from importlib import import_module

from xmflow_jax.cli.early import end_quietly

COMMANDS = ("sweep", "evaluate", "convert", "prepare", "models")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; exit code 2 and one line where there is none of that name."""
    if arguments is None:
        arguments = sys.argv[1:]
        end_quietly()
    if arguments and arguments[0] in COMMANDS:
        return int(import_module(f"xmflow_jax.{arguments[0]}").main(arguments[1:]))
    usage = f"usage: xmflow {{{','.join(COMMANDS)}}} ...; each command explains itself with --help"
    if arguments in (["-h"], ["--help"]):
        print(usage)
        return 0
    print(usage if not arguments else f"xmflow: no command {arguments[0]!r}; {usage}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
