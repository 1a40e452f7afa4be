"""Whether the engine waits for questions and images: `python -m experiments.benchmarks.preparation`.

10,000 questions about drawn scenes are written as question files with their images. Then, with a shipped model: all of
them through preparation alone; all of them through `xmflow_jax.evaluate`, whose engine has the least to do for each
question; and `--swept` of them through a sweep with all default pathways. Of the two commands it prints what share of
its time the engine waited for preparation, which runs beside it. Compilation is part of their time; it is printed too.
"""

import argparse
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.shapes.source import shapes_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS
from xmflow_jax.evaluate import evaluate_model
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.study.shipped import shipped_checkpoint
from xmflow_jax.sweep import run_sweep

# What issue 5 asks for.
MOST = 0.10


def main() -> None:
    """Prints the rate of preparation and the shares of waiting."""
    parser = argparse.ArgumentParser(description="Does the engine wait for questions and images?")
    parser.add_argument("--model", default="shapes-llava", help="shapes-llava (default) or shapes-crossattn")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--swept", type=int, default=1_200, help="of them through the sweep (default: 1200)")
    told = parser.parse_args()
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    with TemporaryDirectory(prefix="xmflow-") as scratch:
        measure(told.model, told.questions, told.swept, Path(scratch))


def measure(model: str, questions: int, swept: int, scratch: Path) -> None:
    files, images = shapes_questions(scratch / "shapes", per_task=-(-questions // len(STUDY_TASKS)))
    read = read_questions(files, images)[:questions]
    checkpoint = read_checkpoint(shipped_checkpoint(model))
    processing = checkpoint.processing()
    template = checkpoint.prompt(processing).template
    begin = time.perf_counter()
    for question in read:
        prepare_question(question, processing, template)
    spent = time.perf_counter() - begin
    print(f"preparation alone: {len(read)} questions in {spent:.1f} s, {len(read) / spent:.0f} a second")

    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    given: dict[str, Any] = {"model": model, "data": [str(file) for file in files], "images": images}

    def tell(name: str, work: Callable[[Callable[[str], None]], object]) -> None:
        lines: list[str] = []
        compiling.clear()
        work(lines.append)
        (line,) = (line for line in lines if line.startswith("the engine waited"))
        share = float(re.findall(r"\(([\d.]+)%\)", line)[0]) / 100
        print(
            f"{name}: {line}; compiling {sum(compiling):.1f} s ({'under' if share < MOST else 'NOT under'} {MOST:.0%})"
        )

    tell(
        f"evaluate, {questions} questions",
        lambda say: evaluate_model(**given, samples=questions, out=scratch / "e", say=say),
    )
    tell(f"sweep, {swept} questions", lambda say: run_sweep(**given, samples=swept, out=scratch / "s", say=say))


if __name__ == "__main__":
    main()
