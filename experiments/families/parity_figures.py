"""How far is every family from transformers' PyTorch? The parity tests, run now, as a table.

    python -m experiments.families.parity_figures --write

Runs the parity tests of `tests/families`, which compare random checkpoints in float32, and prints the largest
differences that they met. With `--write` the table goes into `docs/families.md`, in place of the one that is there.
Needs the tests' packages (`pip install -e '.[test]'`); minutes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "families.md"
# Around the table in the page.
BEGIN, END = "<!-- parity: begin -->", "<!-- parity: end -->"

# As of `tests.families.parity`.
FIGURES: Final = "XMFLOW_PARITY_FIGURES"
KINDS: Final = {"layers": "hidden states, share of the largest", "logits": "logits", "probabilities": "probabilities"}

# Of a test's name in `tests/families`, the longest of these beginnings that it has: its family.
_FAMILIES: Final = {
    "llava/": "llava",
    "llava_next/": "llava_next",
    "llava_onevision/": "llava_onevision",
    "paligemma/": "paligemma",
    "gemma3/": "gemma3",
    "vision_encoder_decoder/": "vision-encoder-decoder",
}
# Where one file tests several: by the case, in brackets.
_CASES: Final = {
    "qwen_vl/": {"qwen2_5": "qwen2_5_vl", "qwen2": "qwen2_vl", "qwen3": "qwen3_vl"},
    "split_images/": {"internvl": "internvl", "idefics3": "idefics3", "smolvlm": "smolvlm"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--figures", type=Path, help="of a run that noted them already: its folder")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = options.figures or run_tests(Path(scratch))
        table = "\n".join(table_lines(largest(read_notes(folder))))
    print(table)
    if options.write:
        write_table(table)


def run_tests(folder: Path) -> Path:
    """The parity tests, the slow ones included; `folder` then holds their figures."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/families", "-k", "parity or decoders", "-m", "not browser"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, FIGURES: str(folder)}, check=True, stdout=sys.stderr)
    return folder


def read_notes(folder: Path) -> list[dict[str, Any]]:
    """What the tests noted, process by process."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def family_of(test: str) -> str | None:
    """The model type that a test compares; None where it is another's, such as the tests' own family."""
    name = test.removeprefix("tests/families/")
    for beginning, cases in _CASES.items():
        if name.startswith(beginning):
            case = name.partition("[")[2]
            return next((family for told, family in cases.items() if case.startswith(told)), None)
    return next((family for beginning, family in _FAMILIES.items() if name.startswith(beginning)), None)


def largest(notes: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, int]]]:
    """By family and kind, the largest difference and of how many comparisons."""
    found: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for note in notes:
        family = family_of(note["test"])
        if family is not None:
            most, count = found[family].get(note["kind"], (0.0, 0))
            found[family][note["kind"]] = max(most, note["largest"]), count + 1
    return found


def table_lines(found: Mapping[str, Mapping[str, tuple[float, int]]]) -> list[str]:
    """A table in Markdown, families in the registry's order."""
    from importlib.metadata import version

    from xmflow_jax.families.registry import all_families

    versions = ", ".join(f"{package} {version(package)}" for package in ("transformers", "torch", "jax"))
    lines = [
        f"Largest differences to transformers' models in float32 ({versions}), clean and under knockout, of so many "
        "comparisons; `python -m experiments.families.parity_figures`:",
        "",
        f"| family | {' | '.join(KINDS.values())} |",
        f"|---|{'---|' * len(KINDS)}",
    ]
    for family in all_families():
        if family.model_type in found:
            own = found[family.model_type]
            cells = [f"{own[kind][0]:.1e} of {own[kind][1]}" if kind in own else "" for kind in KINDS]
            lines.append(f"| `{family.model_type}` | {' | '.join(cells)} |")
    return lines


def write_table(table: str) -> None:
    """Put it into the page, between its marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    behind = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{behind}", encoding="utf-8")


if __name__ == "__main__":
    main()
