"""How long does one command take on a model of real size, from its start to the finished report?

    python -m experiments.benchmarks.whole_study --preset llava-1.5-7b --questions 64 --batch-sizes 8,128

Writes a random checkpoint with a preset's sizes and the demonstration's tokenizer, then runs
`python -m xmflow_jax.sweep` on the shipped questions once for each batch size, one after the other, and prints the
seconds of each. A batch that the device cannot hold shows what the planner makes of it: the command says so itself, as
it does where its self-check against the plain engine fails.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.benchmarks.checkpoint import write_checkpoint
from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.workload import Preset
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.study.shipped import write_image_processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=[name for name, one in PRESETS.items() if one.family.model_type == "llava"])
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--batch-sizes", default="8", help="such as 8,128: a run for each")
    parser.add_argument("--further", default="", help="further options of the sweep, in one string")
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    with TemporaryDirectory() as scratch:
        model = write_model(Path(scratch) / "model", preset)
        for batch_size in options.batch_sizes.split(","):
            command = [sys.executable, "-m", "xmflow_jax.sweep", "--model", str(model), "--dtype", preset.dtype]
            command += ["--window", str(preset.window), "--samples", str(options.questions), "--select", "all"]
            command += ["--batch-size", batch_size, "--out", f"{scratch}/run-{batch_size}", *options.further.split()]
            start = time.perf_counter()
            code = subprocess.run(command, check=False).returncode
            spent = time.perf_counter() - start
            print(f"batch size {batch_size}: {spent:.1f} s from the command to its end, exit code {code}", flush=True)


def write_model(directory: Path, preset: Preset) -> Path:
    """A checkpoint that `sweep` can ask, its words those of the demonstration's tokenizer; returns `directory`."""
    directory.mkdir()
    words = write_demo_tokenizer(directory)
    model = replace(preset.model, text=replace(preset.model.text, vocabulary=words), image_token=words - 1)
    write_image_processor(directory, model.vision.image_size)
    write_checkpoint(directory, replace(preset, model=model))
    return directory


if __name__ == "__main__":
    main()
