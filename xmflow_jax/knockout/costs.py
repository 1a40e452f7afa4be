"""Floating-point operations, a multiplication and an addition counted as two: necessary, executed, and the usual way.

Attention is counted causally where operations are called necessary: position t reads t + 1 sources.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from xmflow_jax.knockout.plan import Placement
from xmflow_jax.models.llama import LlamaConfig
from xmflow_jax.models.llava import LlavaConfig


@dataclass(frozen=True)
class Operations:
    """Of one batch, by stage; `readout` is the head at answer positions."""

    images: float
    base: float
    suffixes: float
    readout: float

    @property
    def total(self) -> float:
        return self.images + self.base + self.suffixes + self.readout


def dense_operations(config: LlamaConfig) -> int:
    """One position through one block's matrices, attention itself left out."""
    heads = config.heads * config.head_width
    kv_heads = config.kv_heads * config.head_width
    return 2 * (2 * config.width * heads + 2 * config.width * kv_heads + 3 * config.width * config.mlp_width)


def edge_operations(config: LlamaConfig) -> int:
    """One query position reading one source in one block: a logit and a weighted value for every head."""
    return 4 * config.heads * config.head_width


def key_value_operations(config: LlamaConfig) -> int:
    """One position through one block's key and value projections."""
    return 4 * config.width * config.kv_heads * config.head_width


def rows_operations(config: LlamaConfig, start: int, stop: int) -> int:
    """Positions `start` to `stop - 1` through one block, each reading itself and everything before it."""
    rows = stop - start
    sources = (start + 1 + stop) * rows // 2
    return rows * dense_operations(config) + sources * edge_operations(config)


def last_block_operations(config: LlamaConfig, rows: int, sources: int) -> int:
    """`rows` positions through the last block, of which the answer's row alone reads (`sources` positions)."""
    keys_values = key_value_operations(config)
    return rows * keys_values + dense_operations(config) - keys_values + sources * edge_operations(config)


def image_operations(config: LlavaConfig, layers: int | None = None) -> int:
    """One image through the tower's first `layers` blocks (default: those the projector needs) and the projector."""
    vision, positions = config.vision, config.vision.patches + 1
    layers = range(vision.layers + 1)[config.feature_layer] if layers is None else layers
    block = positions * (8 * vision.width**2 + 4 * vision.width * vision.mlp_width) + 4 * vision.width * positions**2
    patches = 2 * vision.patches * 3 * vision.patch_size**2 * vision.width
    projector = 2 * config.image_positions * (vision.width * config.text.width + config.text.width**2)
    return patches + layers * block + projector


def usual_operations(config: LlavaConfig, length: Int[np.ndarray, " batch"], images: int, configurations: int) -> float:
    """One full pass for every configuration of every prompt, image encoder (all its blocks) included; causal count."""
    text = config.text
    passes = sum(text.layers * rows_operations(text, 0, int(one)) for one in length)
    encoder = len(length) * images * image_operations(config, config.vision.layers)
    return configurations * float(passes + encoder + len(length) * 2 * text.width * text.vocabulary)


def necessary_operations(
    config: LlavaConfig, placement: Placement, length: Int[np.ndarray, " batch"], images: int
) -> Operations:
    """The least that gives the study's answer on a batch: images and base run once, then only what can change."""
    text = config.text
    base, suffixes, readouts = 0, 0, len(length)
    for stop in map(int, length):
        base += (text.layers - 1) * rows_operations(text, 0, stop) + last_block_operations(text, stop, stop)
    for group, begins in zip(placement.groups, placement.begins, strict=True):
        *before, last = group.trie.necessary
        for begin, stop in zip(map(int, begins), map(int, length), strict=True):
            suffixes += sum(before) * rows_operations(text, begin, stop)
            suffixes += last * last_block_operations(text, stop - begin, stop)
        readouts += last * len(length)
    return Operations(
        float(len(length) * images * image_operations(config)),
        float(base),
        float(suffixes),
        float(readouts * 2 * text.width * text.vocabulary),
    )


def executed_operations(
    config: LlavaConfig, placement: Placement, batch: int, padded: int, images: int, block: int
) -> Operations:
    """What the fast engine's programs really compute: padding, whole segments and whole blocks of causal rows.

    Args:
        batch, padded: prompts and their padded length.
        block: rows that `causal_attend` takes at a time.
    """
    text = config.text
    edges = sum((min(start + block, padded) - start) * min(start + block, padded) for start in range(0, padded, block))
    base = (text.layers - 1) * (padded * dense_operations(text) + edges * edge_operations(text))
    base += last_block_operations(text, padded, padded)
    suffixes, readouts = 0, 1
    for group in placement.groups:
        last = group.trie.necessary[-1]
        row = dense_operations(text) + (group.prefix + group.rows) * edge_operations(text)
        suffixes += (group.trie.executed_row_layers - last) * group.rows * row
        suffixes += last * last_block_operations(text, group.rows, group.prefix + group.rows)
        readouts += last
    return Operations(
        float(batch * images * image_operations(config)),
        float(batch * base),
        float(batch * suffixes),
        float(batch * readouts * 2 * text.width * text.vocabulary),
    )
