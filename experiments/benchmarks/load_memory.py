"""What loading a checkpoint takes of the host's memory: `python -m experiments.benchmarks.load_memory`.

Writes a random LLaVA checkpoint of about 2 GB in several files, loads it in a process of its own, as published and as
converted, and prints the process's peak (`VmHWM`, everything counted: Python, JAX, the files' mapped pages) over the
size of the files. The loaded model has the size of the files, so 1.0 is the least.

Then two processes load it together, spread over one device of each: the peak of each, and the bytes that both read from
the files, over the size of the files.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory

from xmflow_jax.convert import convert
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.random_checkpoint import write_random

# What issue 3 asks for: peak over size.
MOST = 1.4
# And issue 6, of two processes.
MOST_OF_TWO, MOST_READ = 0.75, 1.1

# 2.0 GB in float32, by `--layers`' default; the widths of a small published decoder, the embedding its largest tensor.
MODEL = LlavaConfig(
    ClipVisionConfig(336, 14, width=1024, mlp_width=4096, layers=6, heads=16),
    LlamaConfig(32064, width=2048, mlp_width=5504, layers=6, heads=16, kv_heads=16, head_width=128),
    image_token=32000,
)

LOADING = """
import sys
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
import jax
from xmflow_jax.families.checkpoint import load_model
jax.devices()
before = peak()
model = load_model(sys.argv[1], "float32")
assert all(leaf.is_fully_addressable for leaf in jax.tree.leaves(model.net.params))
print(before, peak())
"""


IN_TWO = """
import sys
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
import jax, numpy as np
from jax.sharding import AxisType, Mesh
from xmflow_jax.machine.partitioning import DATA, MODEL
from xmflow_jax.weights import shards
from xmflow_jax.families.checkpoint import load_model
jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
read, read_slice = [], shards.read_slice
def counted(tensor, index):
    values = read_slice(tensor, index)
    read.append(values.nbytes)
    return values
shards.read_slice = counted
mesh = Mesh(np.array(jax.devices()).reshape(1, 2), (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
before = peak()
model = load_model(sys.argv[1], "float32", mesh)
print(before, peak(), sum(read), file=sys.stderr)
"""


def peaks_in_two(directory: Path) -> list[tuple[int, int, int]]:
    """Of each process: bytes at most in memory before and after loading, and bytes read from the files."""
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", IN_TWO, str(directory), address, str(index)], stderr=subprocess.PIPE, text=True
        )
        for index in range(2)
    ]
    ended = [process.communicate()[1].strip().splitlines() for process in both]
    return [tuple(map(int, lines[-1].split())) for lines in ended]  # type: ignore[misc]


def peaks(directory: Path) -> tuple[int, int]:
    """Bytes at most in memory before and after loading, of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(directory)], capture_output=True, text=True, check=True
    ).stdout.split()
    return int(done[0]), int(done[1])


def size(directory: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main() -> int:
    """Prints the peaks; exit code 1 if one misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=MODEL.text.layers, help="of the decoder (0.2 GB each)")
    chosen = parser.parse_args()
    with TemporaryDirectory() as scratch:
        published, converted = Path(scratch) / "published", Path(scratch) / "converted"
        write_random(published, LLAVA, replace(MODEL, text=replace(MODEL.text, layers=chosen.layers)), seed=0, shards=3)
        convert(published, converted, "float32")
        met = True
        for name, directory in (("safetensors", published), ("converted", converted)):
            before, after = peaks(directory)
            ratio = after / size(directory)
            met &= ratio < MOST
            print(
                f"{name}: {size(directory) / 1e9:.2f} GB on disk, peak {after / 1e9:.2f} GB of which "
                f"{before / 1e9:.2f} GB before loading: {ratio:.2f} times its size (target: under {MOST})"
            )
        ended = peaks_in_two(published)
        ratio = max(after for _, after, _ in ended) / size(published)
        read = sum(own for *_, own in ended) / size(published)
        met &= ratio < MOST_OF_TWO and read < MOST_READ
        print(
            f"two processes: peak {ratio:.2f} times its size at most (target: under {MOST_OF_TWO}), "
            f"{max(before for before, *_ in ended) / 1e9:.2f} GB before loading; both read {read:.3f} times its size "
            f"(target: under {MOST_READ})"
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
