"""What do XLA's older emitters of fused loops, which programs on CPUs are compiled by, cost and save?

    python -m experiments.benchmarks.emitters --preset cpu-576

Runs our side of `sweep_vs_pytorch` on one random checkpoint, in turn by the older emitters and by XLA's default, and
prints the seconds of the warm-up, most of which is compiling, and of a question after it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from experiments.benchmarks.checkpoint import write_checkpoint
from experiments.benchmarks.presets import PRESETS

# What a process runs before the side: its programs are compiled as XLA does by default.
_DEFAULT: Final = "from xmflow_jax.machine import compiler; compiler.compiler_options = lambda: None; "
_SIDE: Final = "from experiments.benchmarks.sweep_vs_pytorch import main; main()"
_KINDS: Final = {"older emitters": "", "XLA's default": _DEFAULT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="cpu-576")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each (default: 2)")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        write_checkpoint(checkpoint, PRESETS[options.preset])
        arguments = ["--side", "jax", "--preset", options.preset, "--checkpoint", str(checkpoint)]
        for round_number in range(options.rounds):
            for name, before in _KINDS.items():
                command = [sys.executable, "-c", before + _SIDE, *arguments]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ)
                found = json.loads(done.stdout.strip().splitlines()[-1])
                print(
                    f"round {round_number + 1}, {name}: warm-up {found['warm_up_seconds']:.1f} s, "
                    f"{found['seconds_per_question']:.3f} s a question",
                    flush=True,
                )


if __name__ == "__main__":
    main()
