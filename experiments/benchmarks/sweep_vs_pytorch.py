"""How many times faster is the sweep than the study's way in PyTorch, and what is in the way of the operation count?

    python -m experiments.benchmarks.sweep_vs_pytorch --preset cpu-576

Writes a random LLaVA checkpoint, runs ours, PyTorch and ours again, each in a process of its own, one after the other,
on the same checkpoint and questions, and prints the ratio of marginal seconds per question (compilation and loading
excluded on both sides), how far the probabilities differ, and where the time and the operations go.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.workload import PRESETS, random_question, study_rows

STAGES = ("image encoder", "base pass", "suffix passes", "readout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="cpu-576")
    parser.add_argument("--batch-size", type=int, default=None, help="default: 1 on a CPU, else 8")
    parser.add_argument("--threads", type=int, default=None, help="PyTorch's threads (default: its own choice)")
    parser.add_argument(
        "--checkpoint", type=Path, help="keep the random checkpoint here, and use the one that is there"
    )
    parser.add_argument("--skip-pytorch", action="store_true", help="time our side only")
    parser.add_argument("--json", type=Path, help="write all figures here as well")
    parser.add_argument("--side", choices=("jax", "jax-plain", "pytorch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(_run_side(options)))
        return
    with TemporaryDirectory() as scratch:
        options.checkpoint = options.checkpoint or Path(scratch) / "checkpoint"
        if not (options.checkpoint / "config.json").exists():
            from xmflow_jax.families.registry import LLAVA
            from xmflow_jax.weights.random_checkpoint import write_random

            preset = PRESETS[options.preset]
            shards = 1 if preset.dtype == "float32" else 8
            write_random(options.checkpoint, LLAVA, preset.model, seed=0, dtype=preset.dtype, shards=shards)
        sides = ("jax-plain",) if options.skip_pytorch else ("jax-plain", "pytorch", "jax")
        found = {side: _spawn(side, options) for side in sides}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    _print_report(options.preset, found)


def _run_side(options: argparse.Namespace) -> dict[str, Any]:
    preset = PRESETS[options.preset]
    questions = [random_question(preset, seed) for seed in range(preset.questions)]
    if options.side == "pytorch":
        from experiments.benchmarks.pytorch_side import run_pytorch

        return run_pytorch(preset, options.checkpoint, questions[:1], options.threads)
    import jax

    from experiments.benchmarks.jax_side import run_jax

    batch_size = options.batch_size or (1 if jax.default_backend() == "cpu" else 8)
    return run_jax(preset, options.checkpoint, questions, batch_size, plain=options.side == "jax-plain")


def _spawn(side: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.benchmarks.sweep_vs_pytorch", "--side", side]
    command += ["--preset", options.preset, "--checkpoint", str(options.checkpoint)]
    for name in ("batch_size", "threads"):
        if getattr(options, name) is not None:
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    print(f"running {side} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _print_report(name: str, found: dict[str, Any]) -> None:
    preset, ours = PRESETS[name], found["jax-plain"]
    runs = [found[side] for side in ("jax-plain", "jax") if side in found]
    per_question = sum(run["seconds_per_question"] for run in runs) / len(runs)
    count = len(study_rows(preset))
    print(f"preset {name}: {count} knockouts a question, {preset.dtype}, on {ours['device']}")
    each = ", ".join(f"{run['seconds_per_question']:.3f}" for run in runs)
    print(f"fast engine: {per_question:.3f} s a question (runs: {each}); warm-up {ours['warm_up_seconds']:.1f} s")
    plain = ours["plain_seconds_per_knockout"] * count
    print(f"plain engine: {plain:.1f} s a question; fast is {plain / per_question:.1f}x faster", end="; ")
    print(f"largest difference in probability {_difference(ours, ours, 'plain_'):.1e}")
    if "pytorch" in found:
        theirs = found["pytorch"]
        same = sum(ours["tokens"][i] == token for i, token in zip(theirs["chosen"], theirs["tokens"], strict=True))
        seconds = sum(theirs["seconds"]) / len(theirs["seconds"]) * count
        timed = len(theirs["seconds"])
        print(f"PyTorch, one full eager pass each ({timed} of {count} passes timed, {theirs['device']}): "
              f"{seconds:.1f} s a question; fast is {seconds / per_question:.1f}x faster")  # fmt: skip
        same = sum(ours["tokens"][i] == token for i, token in zip(theirs["chosen"], theirs["tokens"], strict=True))
        print(f"largest difference in probability {_difference(ours, theirs, ''):.1e}")
        base = "equal" if ours["base_token"] == theirs["base_token"] else "DIFFERENT"
        print(f"argmax equal in {same} of {timed}, base token {base}")
        print(f"large matmul: JAX {ours['matmul_rate'] / 1e9:.0f}, PyTorch {theirs['matmul_rate'] / 1e9:.0f} GFLOP/s")
    necessary, executed = sum(ours["necessary"]), sum(ours["executed"])
    fewer = ours["usual"] / necessary
    print(f"operations a question: necessary {necessary / 1e9:.1f} GFLOP, {fewer:.1f}x fewer than the usual way")
    print(f"executed: {executed / necessary:.3f}x the necessary")
    print(f"{'stage':<15}{'seconds':>9}{'share':>7}{'GFLOP':>9}{'GFLOP/s':>9}{'of matmul':>11}")
    for stage, operations in (("host", None), *zip(STAGES, ours["executed"], strict=True)):
        spent = sum(run["stages"][stage] for run in runs) / len(runs)
        line = f"{stage:<15}{spent:>9.3f}{spent / per_question:>7.0%}"
        if operations is not None and stage != "readout":
            rate = operations / spent
            line += f"{operations / 1e9:>9.1f}{rate / 1e9:>9.0f}{rate / ours['matmul_rate']:>11.0%}"
        print(line)
    for group, spent in ours["groups"].items():
        print(f"  suffix group of {group}: {spent:.3f} s")
    if ours["peak_bytes"]:
        print(f"peak device memory: {ours['peak_bytes'] / 2**30:.1f} GiB")


def _difference(ours: dict[str, Any], other: dict[str, Any], kind: str) -> float:
    chosen, theirs = other[f"{kind}chosen"], other[f"{kind}probs"]
    return max(abs(ours["probs"][index] - prob) for index, prob in zip(chosen, theirs, strict=True))


if __name__ == "__main__":
    main()
