"""How long a sweep takes to get going: `python -m experiments.benchmarks.start_up`.

Writes a random 32-layer LLaVA of tiny width, runs the command on it twice with a compilation cache that is empty at
first, and reports for each run what was spent on compiling and when the first batch began; also how long `--help`
takes. Times are wall-clock seconds from the start of the process. Other work on the machine counts: the load average is
printed with them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from xmflow_jax.study.shipped import write_random_tiny

PATHWAYS = (
    "Question->Last, Image->Last, Last->Last, Image->Question, Image Central Object->Question, "
    "Image Without Central Object->Question"
)

# What issue 3 asks for, in seconds.
MOST_COMPILING, MOST_BEFORE_FIRST_BATCH, MOST_HELP = 60.0, 20.0, 2.0

# The command with two ears: JAX's own record of what it compiles, and the first batch's beginning and end.
LISTENING = """
import atexit, json, os, sys, time
from collections import defaultdict
spent, seen = defaultdict(float), {}
atexit.register(lambda: open(os.environ["START_UP_REPORT"], "w").write(json.dumps({"spent": spent, "seen": seen})))
from xmflow_jax.cli.frame import prepare_process
from xmflow_jax.sweep import main
prepare_process()
import jax
def hear(event, seconds, **_):
    spent[event.rpartition("/")[2]] += seconds
jax.monitoring.register_event_duration_secs_listener(hear)
import xmflow_jax.study.one_batch as one_batch
answer_batch = one_batch.answer_batch
def first(*arguments, **named):
    seen.setdefault("begin", time.time())
    result = answer_batch(*arguments, **named)
    seen.setdefault("end", time.time())
    return result
one_batch.answer_batch = first
sys.exit(main(sys.argv[1:]))
"""

# Tracing, lowering, and XLA itself (or, with a warm cache, reading what it compiled before).
COMPILING = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")


def listen(arguments: Sequence[str], cache: Path, report: Path) -> dict[str, float]:
    """One run of the command; seconds by what they were spent on."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "START_UP_REPORT": str(report)}
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    ended = time.time()
    if done.returncode:
        raise SystemExit(done.stderr)
    heard = json.loads(report.read_text())
    return {
        **{name: heard["spent"].get(name, 0.0) for name in COMPILING},
        "first batch begins": heard["seen"]["begin"] - began,
        "first batch ends": heard["seen"]["end"] - began,
        "whole command": ended - began,
    }


def help_seconds() -> float:
    """How long `--help` takes."""
    began = time.time()
    subprocess.run([sys.executable, "-m", "xmflow_jax.sweep", "--help"], capture_output=True, check=True)
    return time.time() - began


def main() -> int:
    """Prints the times; exit code 1 if one misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--samples", type=int, default=6, help="questions, spread over the six tasks")
    chosen, more = parser.parse_known_args()
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    asked = help_seconds()
    print(f"--help: {asked:.2f} s (target: under {MOST_HELP:.0f})")
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = write_random_tiny(scratch / "model", layers=chosen.layers)
        named = ["--model", str(model), "--data", "demo", "--select", "all", "--pathways", PATHWAYS]
        named += ["--samples", str(chosen.samples), *more]
        runs = {
            cache: listen([*named, "--out", str(scratch / cache)], scratch / "cache", scratch / "report.json")
            for cache in ("empty", "warm")
        }
    for cache, spent in runs.items():
        print(f"{cache} cache: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items()))
    compiling = sum(runs["empty"][name] for name in COMPILING)
    begins = runs["warm"]["first batch begins"]
    print(f"compiling: {compiling:.1f} s (target: under {MOST_COMPILING:.0f})")
    print(f"first batch of the second run begins after {begins:.1f} s (target: under {MOST_BEFORE_FIRST_BATCH:.0f})")
    met = compiling < MOST_COMPILING and begins < MOST_BEFORE_FIRST_BATCH and asked < MOST_HELP
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
