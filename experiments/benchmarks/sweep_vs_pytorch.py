"""How many times faster is the sweep than the study's way in PyTorch, and what is in the way of the operation count?

    python -m experiments.benchmarks.sweep_vs_pytorch --preset cpu-576

Writes a random LLaVA checkpoint, runs ours, PyTorch and ours again, each in a process of its own, one after the other,
on the same checkpoint and questions, and prints the ratio of marginal seconds per question (compilation and loading
excluded on both sides), how far the probabilities differ, and where the time and the operations go. Where the preset's
type is smaller than float32, PyTorch's own passes in float32 tell how much of the difference is either side's rounding.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import Preset, random_question, study_rows

STAGES = ("image encoder", "base pass", "suffix passes", "readout")

# Of a preset.
COUNTS = {
    "questions": "timed questions of the fast engine",
    "torch_knockouts": "timed passes of PyTorch",
    "plain_knockouts": "timed passes of the plain engine, 0 for none",
    "reference_knockouts": "of the former, passes run again in float32, 0 where memory is short",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="cpu-576")
    parser.add_argument("--batch-size", type=int, default=None, help="default: 1 on a CPU, else 8")
    parser.add_argument("--threads", type=int, default=None, help="PyTorch's threads (default: its own choice)")
    parser.add_argument(
        "--checkpoint", type=Path, help="keep the random checkpoint here, and use the one that is there"
    )
    parser.add_argument("--skip-pytorch", action="store_true", help="time our side only")
    for name, meaning in COUNTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{meaning} (default: the preset's)")
    parser.add_argument("--timeout", type=float, help="seconds after which a side is given up")
    parser.add_argument("--json", type=Path, help="write all figures here as well, after every side")
    parser.add_argument("--side", choices=("jax", "jax-plain", "pytorch"), help=argparse.SUPPRESS)
    parser.add_argument("--token", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(_run_side(options)))
        return
    found: dict[str, Any] = {}
    with TemporaryDirectory() as scratch:
        options.checkpoint = options.checkpoint or Path(scratch) / "checkpoint"
        if not (options.checkpoint / "config.json").exists():
            from experiments.benchmarks.checkpoint import write_checkpoint

            start = time.perf_counter()
            write_checkpoint(options.checkpoint, PRESETS[options.preset])
            print(f"checkpoint written in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        for side in ("jax-plain",) if options.skip_pytorch else ("jax-plain", "pytorch", "jax"):
            try:
                found[side] = _spawn(side, options)
                # In less than float32 two tokens may be as good as equal: both sides read the same one.
                options.token = found[side]["base_token"] if options.token is None else options.token
            except subprocess.SubprocessError as error:  # what the other sides found is worth having
                print(f"{side} failed: {error}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if not found.keys() & {"jax-plain", "jax"}:
        raise SystemExit("our side has no figures")
    _print_report(options.preset, _preset(options), found)


def _preset(options: argparse.Namespace) -> Preset:
    """The preset with the counts that the command line gives."""
    given = {name: getattr(options, name) for name in COUNTS}
    return replace(PRESETS[options.preset], **{name: count for name, count in given.items() if count is not None})


def _run_side(options: argparse.Namespace) -> dict[str, Any]:
    preset = _preset(options)
    questions = [random_question(preset, seed) for seed in range(preset.questions)]
    if options.side == "pytorch":
        from experiments.benchmarks.pytorch_side import run_pytorch

        return run_pytorch(preset, options.checkpoint, questions[0], options.threads, options.token)
    import jax

    from experiments.benchmarks.jax_side import run_jax

    batch_size = options.batch_size or (1 if jax.default_backend() == "cpu" else 8)
    return run_jax(preset, options.checkpoint, questions, batch_size, plain=options.side == "jax-plain")


def _spawn(side: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.benchmarks.sweep_vs_pytorch", "--side", side]
    command += ["--preset", options.preset, "--checkpoint", str(options.checkpoint)]
    for name in ("batch_size", "threads", "token", *COUNTS):
        if getattr(options, name) is not None:
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    print(f"running {side} ...", file=sys.stderr, flush=True)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ, timeout=options.timeout
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _print_report(name: str, preset: Preset, found: dict[str, Any]) -> None:
    runs = [found[side] for side in ("jax-plain", "jax") if side in found]
    ours, count = runs[0], len(study_rows(preset))
    per_question = sum(run["seconds_per_question"] for run in runs) / len(runs)
    print(f"preset {name}: {count} knockouts a question, {preset.dtype}, on {ours['device']}")
    each = ", ".join(f"{run['seconds_per_question']:.4f}" for run in runs)
    print(f"fast engine: {per_question:.4f} s a question (runs: {each})")
    for run in runs:
        stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in run["warm_up_stages"].items())
        print(f"loading {run['loading_seconds']:.1f} s; warm-up {run['warm_up_seconds']:.1f} s ({stages})")
    if "plain_probs" in ours:
        plain = ours["plain_seconds_per_knockout"] * count
        print(f"plain engine: {plain:.2f} s a question; fast is {plain / per_question:.1f}x faster")
        print(f"difference in probability, fast to plain: {_difference(ours, ours, 'plain_')}")
    if "pytorch" in found:
        theirs = found["pytorch"]
        seconds = sum(theirs["seconds"]) / len(theirs["seconds"]) * count
        timed = len(theirs["seconds"])
        print(f"PyTorch, one full eager pass each ({timed} of {count} passes timed, {theirs['device']}): "
              f"{seconds:.2f} s a question; fast is {seconds / per_question:.1f}x faster")  # fmt: skip
        same = sum(ours["tokens"][i] == token for i, token in zip(theirs["chosen"], theirs["tokens"], strict=True))
        print(f"difference in probability, fast to PyTorch: {_difference(ours, theirs, '')}")
        base = "equal" if ours["base_token"] == theirs["base_token"] else "DIFFERENT"
        print(f"argmax equal in {same} of {timed}, base token {base}; its probability: "
              f"fast {ours['base_prob']:.4f}, PyTorch {theirs['base_prob']:.4f}")  # fmt: skip
        if "reference_probs" in theirs:
            by_index = dict(zip(theirs["chosen"], theirs["probs"], strict=True))
            print(f"difference to {len(theirs['reference_chosen'])} passes of PyTorch in float32: "
                  f"fast {_difference(ours, theirs, 'reference_')}, "
                  f"PyTorch {_difference({'probs': by_index}, theirs, 'reference_')}")  # fmt: skip
        print(f"large matmul: JAX {ours['matmul_rate'] / 1e9:.0f}, PyTorch {theirs['matmul_rate'] / 1e9:.0f} GFLOP/s")
        if theirs["peak_bytes"]:
            print(f"peak device memory of PyTorch: {theirs['peak_bytes'] / 2**30:.1f} GiB")
    necessary, executed = sum(ours["necessary"]), sum(ours["executed"])
    fewer = ours["usual"] / necessary
    print(f"operations a question: necessary {necessary / 1e9:.1f} GFLOP, {fewer:.1f}x fewer than the usual way")
    print(f"executed: {executed / necessary:.3f}x the necessary")
    print(f"{'stage':<15}{'seconds':>9}{'share':>7}{'GFLOP':>9}{'GFLOP/s':>9}{'of matmul':>11}")
    for stage, operations in (("host", None), *zip(STAGES, ours["executed"], strict=True)):
        spent = sum(run["stages"][stage] for run in runs) / len(runs)
        line = f"{stage:<15}{spent:>9.4f}{spent / per_question:>7.0%}"
        if operations is not None and stage != "readout":
            rate = operations / spent
            line += f"{operations / 1e9:>9.1f}{rate / 1e9:>9.0f}{rate / ours['matmul_rate']:>11.0%}"
        print(line)
    for group, spent in ours["groups"].items():
        print(f"  suffix group of {group}: {spent:.4f} s")
    if ours["peak_bytes"]:
        print(f"peak device memory: {ours['peak_bytes'] / 2**30:.1f} GiB")


def _difference(ours: dict[str, Any], other: dict[str, Any], kind: str) -> str:
    """The largest and the mean, over the configurations that both sides ran."""
    both = zip(other[f"{kind}chosen"], other[f"{kind}probs"], strict=True)
    apart = [abs(ours["probs"][index] - prob) for index, prob in both]
    return f"largest {max(apart):.1e}, mean {sum(apart) / len(apart):.1e}"


if __name__ == "__main__":
    main()
