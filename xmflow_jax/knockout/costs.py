"""Floating-point operations, a multiplication and an addition counted as two: necessary, executed, and the usual way.

Attention is counted causally where operations are called necessary: position t reads t + 1 sources.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.knockout.fast.placement import Placement
from xmflow_jax.nn.gpt2 import Gpt2Config
from xmflow_jax.nn.llama import LlamaConfig

TextConfig = LlamaConfig | Gpt2Config
ModelConfig = LlavaConfig | CrossAttentionConfig


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


def visual_positions(config: ModelConfig) -> int:
    """Positions that every text position reads by cross-attention."""
    return config.image_positions if isinstance(config, CrossAttentionConfig) else 0


def dense_operations(config: TextConfig) -> int:
    """One position through one block's matrices, attention itself left out."""
    heads = config.heads * config.head_width
    kv_heads = config.kv_heads * config.head_width
    # SwiGLU has a third matrix; cross-attention has queries and an output of its own.
    mlp, cross = (3, 0) if isinstance(config, LlamaConfig) else (2, 2)
    matrices = (2 + cross) * config.width * heads + 2 * config.width * kv_heads + mlp * config.width * config.mlp_width
    return 2 * matrices


def edge_operations(config: TextConfig) -> int:
    """One query position reading one source in one block: a logit and a weighted value for every head."""
    return 4 * config.heads * config.head_width


def key_value_operations(config: TextConfig) -> int:
    """One position through one block's key and value projections."""
    return 4 * config.width * config.kv_heads * config.head_width


def rows_operations(config: TextConfig, start: int, stop: int, visual: int = 0) -> int:
    """Positions `start` to `stop - 1` through one block, each reading itself, everything before it, and `visual`
    positions by cross-attention."""
    rows = stop - start
    sources = (start + 1 + stop) * rows // 2 + rows * visual
    return rows * dense_operations(config) + sources * edge_operations(config)


def last_block_operations(config: TextConfig, rows: int, sources: int) -> int:
    """`rows` positions through the last block, of which the answer's row alone reads (`sources` positions)."""
    keys_values = key_value_operations(config)
    return rows * keys_values + dense_operations(config) - keys_values + sources * edge_operations(config)


def image_operations(config: ModelConfig, layers: int | None = None) -> int:
    """One image through the tower's first `layers` blocks (default: those that are read) and the projector."""
    vision, positions, text = config.vision, config.vision.patches + 1, config.text
    if isinstance(config, LlavaConfig):
        needed = range(vision.layers + 1)[config.feature_layer]
        projector = 2 * config.image_positions * (vision.width * text.width + text.width**2)
    else:
        needed = vision.layers
        projector = 2 * config.image_positions * vision.width * text.width if config.projects else 0
    block = positions * (8 * vision.width**2 + 4 * vision.width * vision.mlp_width) + 4 * vision.width * positions**2
    patches = 2 * vision.patches * 3 * vision.patch_size**2 * vision.width
    return patches + (needed if layers is None else layers) * block + projector


def visual_operations(config: ModelConfig) -> int:
    """The cross-attention's keys and values of one image in every block."""
    return visual_positions(config) * config.text.layers * key_value_operations(config.text)


def usual_operations(config: ModelConfig, length: Int[np.ndarray, " batch"], images: int, configurations: int) -> float:
    """One full pass for every configuration of every prompt, image encoder (all its blocks) included; causal count."""
    text, visual = config.text, visual_positions(config)
    passes = sum(text.layers * rows_operations(text, 0, int(one), visual) for one in length)
    encoder = len(length) * images * (image_operations(config, config.vision.layers) + visual_operations(config))
    return configurations * float(passes + encoder + len(length) * 2 * text.width * text.vocabulary)


def necessary_operations(
    config: ModelConfig, placement: Placement, length: Int[np.ndarray, " batch"], images: int
) -> Operations:
    """The least that gives the study's answer on a batch: images and base run once, then only what can change."""
    text, visual = config.text, visual_positions(config)
    base, suffixes, readouts = len(length) * images * visual_operations(config), 0, len(length)
    for stop in map(int, length):
        base += (text.layers - 1) * rows_operations(text, 0, stop, visual)
        base += last_block_operations(text, stop, stop + visual)
    for group, begins in zip(placement.groups, placement.begins, strict=True):
        *before, last = group.trie.necessary
        for begin, stop in zip(map(int, begins), map(int, length), strict=True):
            suffixes += sum(before) * rows_operations(text, begin, stop, visual)
            suffixes += last * last_block_operations(text, stop - begin, stop + visual)
        readouts += last * len(length)
    return Operations(
        float(len(length) * images * image_operations(config)),
        float(base),
        float(suffixes),
        float(readouts * 2 * text.width * text.vocabulary),
    )


def executed_operations(
    config: ModelConfig, placement: Placement, batch: int, padded: int, images: int, block: int
) -> Operations:
    """What the fast engine's programs really compute: padding, whole segments and whole blocks of causal rows.

    Args:
        batch, padded: prompts and their padded length.
        block: rows that `causal_attend` takes at a time.
    """
    text, visual = config.text, visual_positions(config)
    sources = sum(
        (min(start + block, padded) - start) * min(start + block, padded) for start in range(0, padded, block)
    )
    edges = sources + padded * visual
    base = (text.layers - 1) * (padded * dense_operations(text) + edges * edge_operations(text))
    base += last_block_operations(text, padded, padded + visual) + images * visual_operations(config)
    suffixes, readouts = 0, 1
    for group in placement.groups:
        last = group.trie.necessary[-1]
        row = dense_operations(text) + (group.prefix + group.rows + visual) * edge_operations(text)
        suffixes += (group.trie.executed_row_layers - last) * group.rows * row
        suffixes += last * last_block_operations(text, group.rows, group.prefix + group.rows + visual)
        readouts += last
    return Operations(
        float(batch * images * image_operations(config)),
        float(batch * base),
        float(batch * suffixes),
        float(batch * readouts * 2 * text.width * text.vocabulary),
    )
