"""Random checkpoints in Hugging Face format, of any size, written without PyTorch.

Weights are scaled so that activations keep their size through the layers, attention is neither uniform nor a single
spike, and the next token is neither certain nor arbitrary: a knockout then visibly changes the answer.
"""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from xmflow_jax.errors import OptionError
from xmflow_jax.weights.load import abstract_model, shapes
from xmflow_jax.weights.published import ModelConfig, PublishedFamily
from xmflow_jax.weights.rules import AS_IS, KeyTable, Rule
from xmflow_jax.weights.safetensors_files import INDEX, SINGLE

STORED_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}

# Queries' and keys' gain: attention logits get a standard deviation of about 1.5^2.
ATTENTION_GAIN = 1.5
# The logits' standard deviation.
HEAD_GAIN = 3.0


def write_random(
    directory: Path,
    family: PublishedFamily,
    config: ModelConfig,
    seed: int,
    dtype: str = "float32",
    layout: str | None = None,
    shards: int = 1,
) -> None:
    """Write `config.json` and safetensors files that both transformers and this program read.

    A tensor's values depend on the seed, its canonical name and its shape alone, so checkpoints of another layout,
    number of shards or dtype hold the same model. One tensor is in memory at a time.

    Args:
        directory: created if need be; must hold no weights yet.
        dtype: "float32", "bfloat16" or "float16".
        layout: the name of one of the family's (`KeyTable.layouts`); None: the first.
        shards: number of files, each with about the same number of bytes.

    Raises:
        OptionError: an argument has a value that cannot be used.
    """
    table = family.keys(config)
    known = {one.name: one for one in table.layouts}
    layout = table.layouts[0].name if layout is None else layout
    for name, value, supported in (("dtype", dtype, STORED_NAMES), ("layout", layout, known)):
        if value not in supported:
            raise OptionError(f"{name} is {value!r}; supported: {', '.join(supported)}")
    expected = shapes(abstract_model(family, config, "float32")[1])
    # Published files fuse some parameters into one tensor, which then has several rules.
    fused: dict[str, list[Rule]] = {}
    for rule in table.rules:
        for name in rule.names():
            fused.setdefault(name, []).append(rule)
    tensors: dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]] = {}
    for name, rules in fused.items():
        shape = rules[0].published_shape(expected[rules[0].path].shape)
        tensors[known[layout].published(name)] = (shape, _drawing(rules, name, shape, table, seed))
    if not 1 <= shards <= len(tensors):
        raise OptionError(f"shards is {shards!r}; supported: 1 to {len(tensors)}")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.glob("*.safetensors")):
        raise OptionError(f"{directory} holds weights already")
    text = json.dumps(family.write_config(config, dtype), indent=2) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    if shards == 1:
        _write_file(directory / SINGLE, tensors, dtype)
        return
    weight_map = {}
    for number, names in enumerate(_split(tensors, shards), start=1):
        file = f"model-{number:05d}-of-{shards:05d}.safetensors"
        _write_file(directory / file, {name: tensors[name] for name in names}, dtype)
        weight_map.update(dict.fromkeys(names, file))
    size = sum(math.prod(shape) for shape, _ in tensors.values()) * jnp.dtype(dtype).itemsize
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _drawing(
    rules: Sequence[Rule], name: str, shape: tuple[int, ...], table: KeyTable, seed: int
) -> Callable[[], np.ndarray]:
    """A function that draws this tensor in float32; one fused of several parameters has a part of each."""
    # One mean and deviation for each parameter, along the axis that they are fused along.
    axis = rules[0].part_axis % len(shape[rules[0].leading :]) + rules[0].leading
    each = np.array([_distribution(rule, shape, table) for rule in rules], np.float32).T
    along = (-1, *[1] * (len(shape) - axis - 1))
    mean, deviation = (one.reshape(along) for one in np.repeat(each, shape[axis] // len(rules), axis=1))

    def draw() -> np.ndarray:
        # By name, so that the order of tensors does not matter.
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= deviation
        values += mean
        return values

    return draw


def _distribution(rule: Rule, shape: tuple[int, ...], table: KeyTable) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's values."""
    layer, leaf = ("", *rule.path)[-2:]
    if leaf == "scale":
        return 1.0, 0.1
    if leaf == "bias":
        return 0.0, 0.1
    if leaf == "offset":  # of a norm's factor from 1; the last norm makes up for what a scaled embedding lacks
        return HEAD_GAIN - 1 if layer == "norm" and table.scaled and table.tied else 0.0, 0.1
    if leaf == "embedding" and table.scaled:
        return 0.0, 1 / math.sqrt(shape[-1])
    if layer == "lm_head" or (leaf in ("embedding", "embed_positions") and table.tied):
        # Both are (words, width).
        return 0.0, HEAD_GAIN / math.sqrt(shape[-1])
    if leaf not in ("kernel", "patch_embedding"):
        return 0.0, 1.0
    # GPT-2's matrices are (in, out).
    inputs = shape[0] if rule.axes == AS_IS else math.prod(shape[1:])
    gain = ATTENTION_GAIN if layer in ("q_proj", "k_proj") else 1.0
    return 0.0, gain / math.sqrt(inputs)


def _split(tensors: dict[str, Any], shards: int) -> Sequence[list[str]]:
    """Tensor names in as many runs, of about the same number of values and none empty."""
    groups: list[list[str]] = [[] for _ in range(shards)]
    total, done = sum(math.prod(shape) for shape, _ in tensors.values()), 0
    for position, (name, (shape, _)) in enumerate(tensors.items()):
        # Not so far ahead that a group before it would stay empty, nor so far behind that one after it would.
        used = sum(bool(group) for group in groups)
        least, most = shards - (len(tensors) - position), min(used, shards - 1)
        groups[min(max(done * shards // total, least, 0), most)].append(name)
        done += math.prod(shape)
    return groups


def _write_file(path: Path, tensors: dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]], dtype: str) -> None:
    """One safetensors file: the header's length (8 bytes, little-endian), the header as JSON, the tensors' bytes.

    Written by hand because the library's writer wants all tensors of a file in memory at once.
    """
    kind = jnp.dtype(dtype)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (shape, _) in tensors.items():
        end = offset + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": STORED_NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, draw in tensors.values():
            file.write(draw().astype(kind, copy=False).view(np.uint8))
