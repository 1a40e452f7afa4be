"""How many times faster is the sweep than transformers' eager model, family by family, on one photo's positions?

    python -m experiments.benchmarks.families

Runs `sweep_vs_pytorch` on every `photo-...` preset: a random checkpoint of a decoder of 16 layers x 512 behind a tower
of 12 x 256 with the family's own patches and tiles, a photo of 1,024 x 768. Prints a table; minutes for each family.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.presets import PHOTOS
from experiments.benchmarks.workload import Preset, study_rows

_HEAD = (
    "family",
    "image positions",
    "fast engine, s a question",
    "PyTorch, s a question",
    "fast over PyTorch",
    "operations fewer",
    "executed over necessary",
    "largest difference",
    "argmax equal",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="*", default=list(PHOTOS), choices=list(PHOTOS), metavar="PRESET")
    parser.add_argument("--further", default="", help="further options of sweep_vs_pytorch, in one string")
    options = parser.parse_args()
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}", flush=True)
    for name in options.families:
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / "found.json"
            command = [sys.executable, "-m", "experiments.benchmarks.sweep_vs_pytorch", "--preset", name]
            command += ["--json", str(file), *options.further.split()]
            subprocess.run(command, check=True, stdout=sys.stderr)
            print(
                f"| {' | '.join(table_row(PHOTOS[name], json.loads(file.read_text(encoding='utf-8'))))} |", flush=True
            )


def table_row(preset: Preset, found: dict[str, Any]) -> list[str]:
    """One family's figures.

    Args:
        found: what `sweep_vs_pytorch` writes.
    """
    runs = [found[side] for side in ("jax-plain", "jax") if side in found]
    ours, theirs = runs[0], found["pytorch"]
    fast = sum(run["seconds_per_question"] for run in runs) / len(runs)
    slow = sum(theirs["seconds"]) / len(theirs["seconds"]) * len(study_rows(preset))
    each = ", ".join(f"{run['seconds_per_question']:.2f}" for run in runs)
    necessary = sum(ours["necessary"])
    pairs = list(zip(theirs["chosen"], theirs["probs"], theirs["tokens"], strict=True))
    same = sum(ours["tokens"][index] == token for index, _, token in pairs)
    return [
        f"`{preset.family.model_type}`",
        f"{preset.image_positions:,}",
        f"{fast:.2f} ({each})",
        f"{slow:.0f} ({len(pairs)} passes timed)",
        f"{slow / fast:.0f}x",
        f"{ours['usual'] / necessary:.1f}x",
        f"{sum(ours['executed']) / necessary:.2f}",
        f"{max(abs(ours['probs'][index] - prob) for index, prob, _ in pairs):.1e}",
        f"{same} of {len(pairs)}",
    ]


if __name__ == "__main__":
    main()
