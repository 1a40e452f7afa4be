"""A vision tower of Qwen2-VL, Qwen2.5-VL or Qwen3-VL: its part of `config.json`, read and written; its tensors."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.nn.qwen_vision import MOMENTS, QwenVisionConfig
from xmflow_jax.weights.config_checks import activation, check_keys, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.rules import AS_IS, VECTOR, Rule, linear, norm

QWEN2: Final = "qwen2_vl_vision"
QWEN2_5: Final = "qwen2_5_vl_vision"
QWEN3: Final = "qwen3_vl_vision"
# What files of before named instead: the whole model's type.
_OLD: Final = {QWEN2: "qwen2_vl", QWEN2_5: "qwen2_5_vl", QWEN3: "qwen3_vl"}

_ALL: Final = frozenset({"depth", "hidden_act", "hidden_size", "model_type", "num_heads", "patch_size"}) | {
    "spatial_merge_size"
}
_READ: Final = {
    QWEN2: _ALL | {"embed_dim", "mlp_ratio"},
    QWEN2_5: _ALL | {"intermediate_size", "out_hidden_size", "window_size", "fullatt_block_indexes"},
    QWEN3: _ALL | {"intermediate_size", "out_hidden_size", "num_position_embeddings", "deepstack_visual_indexes"},
}
_FIXED: Final = {
    **COMMON_FIXED,
    "in_channels": (3,),
    "in_chans": (3,),
    "temporal_patch_size": (MOMENTS,),
    "rope_parameters": (None, {"rope_type": "axial"}, {"rope_theta": 10000.0, "rope_type": "axial"}),
}
_HARMLESS: Final = {
    **COMMON_HARMLESS,
    "tokens_per_second": "of videos, which are not asked about here",
    "spatial_patch_size": "the patch size, told a second time",
    "tie_word_embeddings": "the tower has no words",
}

# (channel, moment, row, column, out): the order of a patch's numbers, then the width.
_KERNEL: Final = (1, 2, 3, 4, 0)


def check_tower(path: Path, name: str, tower: Any, kind: str) -> dict[str, Any]:
    """Refuse what is not computed here; returns the part, with its type as it is spelt today.

    Args:
        path: of config.json, for messages.
        name: under which the tower's part stands in the file.
        tower: that part.
        kind: `QWEN2`, `QWEN2_5` or `QWEN3`.

    Raises:
        CheckpointError: a key that no table names, or a value that is not computed here.
    """
    if isinstance(tower, Mapping) and tower.get("model_type") == _OLD[kind]:
        tower = {**tower, "model_type": kind}
    check_keys(path, Section(name, _READ[kind], _FIXED, _HARMLESS), tower, kind)
    return dict(tower)


def read_tower(path: Path, name: str, filled: Any, kind: str) -> QwenVisionConfig:
    """A tower's configuration from transformers' object, whose defaults are filled in.

    Args:
        path, name, kind: as of `check_tower`, which comes before.

    Raises:
        CheckpointError: a value that is not computed here.
    """

    def whole(key: str) -> int:
        return size(path, f"{name}.{key}", getattr(filled, key))

    newer = kind != QWEN2
    width, heads = whole("hidden_size" if newer else "embed_dim"), whole("num_heads")
    if width % (4 * heads):
        raise CheckpointError(f"{path}: {name} has a width of {width} and {heads} heads; a head's must divide by 4")
    layers, merge, patch = whole("depth"), whole("spatial_merge_size"), whole("patch_size")
    config = QwenVisionConfig(
        patch_size=patch,
        merge=merge,
        width=width,
        mlp_width=whole("intermediate_size") if newer else int(width * filled.mlp_ratio),
        layers=layers,
        heads=heads,
        text_width=whole("out_hidden_size" if newer else "hidden_size"),
        gated=kind == QWEN2_5,
        activation=activation(path, f"{name}.hidden_act", filled.hidden_act),
    )
    if kind == QWEN2:
        return config
    if kind == QWEN3:
        table, deep = whole("num_position_embeddings"), _layers(path, name, filled, "deepstack_visual_indexes", layers)
        side = math.isqrt(table)
        if side**2 != table:
            raise CheckpointError(f"{path}: {name}.num_position_embeddings is {table}; supported: a square number")
        if not deep or list(deep) != sorted(set(deep)):
            raise CheckpointError(
                f"{path}: {name}.deepstack_visual_indexes is {list(deep)}; supported: ascending numbers, at least one"
            )
        return replace(config, table=side, deep_layers=deep)
    window = whole("window_size")
    if window % (merge * patch):
        raise CheckpointError(f"{path}: {name}.window_size is {window}; supported: a multiple of {merge * patch}")
    return replace(config, window=window, whole_layers=_layers(path, name, filled, "fullatt_block_indexes", layers))


def _layers(path: Path, name: str, filled: Any, key: str, layers: int) -> tuple[int, ...]:
    """Numbers of layers.

    Raises:
        CheckpointError: they are no such numbers.
    """
    numbers = getattr(filled, key)
    if not isinstance(numbers, list | tuple) or not all(type(one) is int and 0 <= one < layers for one in numbers):
        raise CheckpointError(f"{path}: {name}.{key} is {numbers!r}; supported: numbers from 0 to {layers - 1}")
    return tuple(numbers)


def write_tower(vision: QwenVisionConfig) -> dict[str, Any]:
    """The tower's part of `config.json`; `read_tower` is its inverse."""
    both = {
        "depth": vision.layers,
        "num_heads": vision.heads,
        "patch_size": vision.patch_size,
        "spatial_merge_size": vision.merge,
        "temporal_patch_size": MOMENTS,
        "hidden_act": vision.activation,
    }
    if vision.table is not None:
        return both | {
            "model_type": QWEN3,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp_width,
            "out_hidden_size": vision.text_width,
            "num_position_embeddings": vision.table**2,
            "deepstack_visual_indexes": list(vision.deep_layers),
        }
    if not vision.gated:
        ratio = vision.mlp_width / vision.width
        own = {"model_type": QWEN2, "embed_dim": vision.width, "hidden_size": vision.text_width, "mlp_ratio": ratio}
        return both | {**own, "mlp_ratio": int(ratio) if ratio == int(ratio) else ratio}
    return both | {
        "model_type": QWEN2_5,
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp_width,
        "out_hidden_size": vision.text_width,
        "window_size": vision.window,
        "fullatt_block_indexes": list(vision.whole_layers),
    }


def tower_rules(vision: QwenVisionConfig, published: str, own: str) -> Iterator[Rule]:
    """The rules of all of a tower's parameters.

    Args:
        published: what the tower's canonical names begin with, without the last dot.
        own: its name in the NNX state.
    """
    layers, block, ours = vision.layers, f"{published}.blocks.*", (own, "blocks")
    yield Rule(f"{published}.patch_embed.proj.weight", (own, "patch_embedding"), _KERNEL)
    for name in ("norm1", "norm2"):
        yield from norm(f"{block}.{name}", (*ours, name), layers, bias=not vision.gated)
    for index, name in enumerate("qkv"):
        path = (*ours, "attn", f"{name}_proj")
        yield from linear(f"{block}.attn.qkv", path, layers, bias=True, part=(index, 3))
    yield from linear(f"{block}.attn.proj", (*ours, "attn", "proj"), layers, bias=True)
    newest = vision.table is not None
    for name in ("gate_proj", "up_proj", "down_proj") if vision.gated else ("fc1", "fc2"):
        yield from linear(f"{block}.mlp.{'linear_' * newest}{name}", (*ours, "mlp", name), layers, bias=True)
    if newest:
        yield Rule(f"{published}.patch_embed.proj.bias", (own, "patch_bias"), VECTOR)
        yield Rule(f"{published}.pos_embed.weight", (own, "position_embedding"), AS_IS)
        yield from _newest_merger(f"{published}.merger", (own, "merger"), ())
        deep = (len(vision.deep_layers),)
        yield from _newest_merger(f"{published}.deepstack_merger_list.*", (own, "deep_mergers"), deep)
        return
    yield from norm(f"{published}.merger.ln_q", (own, "merger", "ln_q"), bias=not vision.gated)
    for number, name in ((0, "linear_1"), (2, "linear_2")):
        yield from linear(f"{published}.merger.mlp.{number}", (own, "merger", name), bias=True)


def _newest_merger(published: str, own: tuple[str, ...], count: tuple[int, ...]) -> Iterator[Rule]:
    """Qwen3-VL's merger, or so many of them."""
    yield from norm(f"{published}.norm", (*own, "ln_q"), *count, bias=True)
    for number in (1, 2):
        yield from linear(f"{published}.linear_fc{number}", (*own, f"linear_{number}"), *count, bias=True)
