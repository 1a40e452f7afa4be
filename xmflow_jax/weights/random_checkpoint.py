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
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import ModelConfig
from xmflow_jax.families.vision_encoder_decoder.config import published_encoder_decoder
from xmflow_jax.weights.key_matching import key_table, layouts, published_name
from xmflow_jax.weights.load import abstract_model, shapes
from xmflow_jax.weights.rules import AS_IS, Rule
from xmflow_jax.weights.safetensors_files import INDEX, SINGLE

STORED_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}

# Queries' and keys' gain: attention logits get a standard deviation of about 1.5^2.
ATTENTION_GAIN = 1.5
# The logits' standard deviation.
HEAD_GAIN = 3.0


def write_random(
    directory: Path,
    config: ModelConfig,
    seed: int,
    dtype: str = "float32",
    layout: str | None = None,
    shards: int = 1,
) -> None:
    """Write `config.json` and safetensors files that both transformers and `load_model` read.

    A tensor's values depend on the seed, its canonical name and its shape alone, so checkpoints of another layout,
    number of shards or dtype hold the same model. One tensor is in memory at a time.

    Args:
        directory: created if need be; must hold no weights yet.
        dtype: "float32", "bfloat16" or "float16".
        layout: one of the family's `keys.layouts`; None: the first.
        shards: number of files, each with about the same number of bytes.

    Raises:
        OptionError: an argument has a value that cannot be used.
    """
    known = layouts(config)
    layout = next(iter(known)) if layout is None else layout
    for name, value, supported in (("dtype", dtype, STORED_NAMES), ("layout", layout, known)):
        if value not in supported:
            raise OptionError(f"{name} is {value!r}; supported: {', '.join(supported)}")
    expected = shapes(abstract_model(config, "float32")[1])
    # Published files fuse some parameters into one tensor, which then has several rules.
    fused: dict[str, list[Rule]] = {}
    for rule in key_table(config):
        for name in rule.names():
            fused.setdefault(name, []).append(rule)
    tensors: dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]] = {}
    for name, rules in fused.items():
        shape = rules[0].published_shape(expected[rules[0].path].shape)
        tensors[published_name(name, layout)] = (shape, _drawing(rules, name, shape, config, seed))
    if not 1 <= shards <= len(tensors):
        raise OptionError(f"shards is {shards!r}; supported: 1 to {len(tensors)}")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.glob("*.safetensors")):
        raise OptionError(f"{directory} holds weights already")
    text = json.dumps(published_config(config, dtype), indent=2) + "\n"
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


def published_config(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `encoder_decoder_config.model_config` is its inverse."""
    if not isinstance(config, LlavaConfig):
        return published_encoder_decoder(config, dtype)
    vision, text = config.vision, config.text
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": dtype,
        "image_token_index": config.image_token,
        "image_seq_length": config.image_positions,
        "projector_hidden_act": config.projector_activation,
        "multimodal_projector_bias": config.projector_bias,
        "vision_feature_layer": config.feature_layer,
        "vision_feature_select_strategy": "full" if config.keep_class_token else "default",
        "tie_word_embeddings": text.tied,
        "text_config": {
            "model_type": "llama",
            "vocab_size": text.vocabulary,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_width,
            "rms_norm_eps": text.norm_eps,
            "rope_theta": text.rope_theta,
            "hidden_act": text.activation,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": text.tied,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "layer_norm_eps": vision.norm_eps,
            "hidden_act": vision.activation,
        },
    }


def _drawing(
    rules: Sequence[Rule], name: str, shape: tuple[int, ...], config: ModelConfig, seed: int
) -> Callable[[], np.ndarray]:
    """A function that draws this tensor in float32; one fused of several parameters has a part of each."""
    # Along the last axis.
    mean, deviation = np.repeat(
        np.array([_distribution(rule, shape, config) for rule in rules], np.float32).T, shape[-1] // len(rules), axis=1
    )

    def draw() -> np.ndarray:
        # By name, so that the order of tensors does not matter.
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= deviation
        values += mean
        return values

    return draw


def _distribution(rule: Rule, shape: tuple[int, ...], config: ModelConfig) -> tuple[float, float]:
    """Mean and standard deviation of a tensor's values."""
    *_, layer, leaf = rule.path
    if leaf == "scale":
        return 1.0, 0.1
    if leaf == "bias":
        return 0.0, 0.1
    if layer == "lm_head" or (leaf in ("embedding", "embed_positions") and config.text.tied):
        return 0.0, HEAD_GAIN / math.sqrt(config.text.width)
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
