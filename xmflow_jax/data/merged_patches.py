"""Images of any size as patches in merge blocks: how the Qwen-VL models cut, number and place them.

Sources: `image_processing_qwen2_vl` and `get_rope_index` of transformers 5.24; arXiv 2409.12191 (positions on three
axes).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int32

from xmflow_jax.data.images import FEATURE, ImageLayout, patch_layout
from xmflow_jax.data.place import Place

# What a prompt's pixels hold beside their colours.
ROWS: Final = "rows"
COLUMNS: Final = "columns"
IMAGES: Final = "images"
WINDOWS: Final = "windows"
# Entries of a table of positions, and each one's share.
TABLE_READS: Final = "table_reads"
TABLE_SHARES: Final = "table_shares"

# The longest image, in its shorter sides, that is resized.
LONGEST: Final = 200


@dataclass(frozen=True)
class PixelLimits:
    """Between how many pixels a resized image has."""

    least: int
    most: int


# Those of published checkpoints.
PUBLISHED_LIMITS: Final = PixelLimits(3136, 12_845_056)


def resized(size: tuple[int, int], factor: int, limits: PixelLimits) -> tuple[int, int]:
    """(height, width) that an image is resized to: multiples of `factor`, about its shape, within the limits.

    Args:
        size: (width, height).
    """
    width, height = size
    down, across = (round(side / factor) * factor for side in (height, width))
    if down * across > limits.most:
        shrink = math.sqrt(height * width / limits.most)
        down, across = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif down * across < limits.least:
        grow = math.sqrt(limits.least / (height * width))
        down, across = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return down, across


def merged_layout(size: tuple[int, int], factor: int, limits: PixelLimits, marks: tuple[int, int]) -> ImageLayout:
    """Merge blocks row by row, between two marks.

    Args:
        size: (width, height) of the image.
        factor: side of a merge block in pixels.
        marks: token ids before and behind the image.
    """
    height, width = resized(size, factor, limits)
    plain = patch_layout(height // factor, width // factor, factor, in_prompt=True)
    tokens = np.array([marks[0], *[FEATURE] * plain.positions, marks[1]], np.int32)
    return ImageLayout(plain.rows, plain.columns, plain.side, plain.boxes, tokens)


def number_patches(grids: Sequence[tuple[int, int]], merge: int, window: int) -> dict[str, Int32[np.ndarray, " patch"]]:
    """Of a prompt's images, in merge blocks: each patch's row and column, the numbers of its image and window, from 1.

    Args:
        grids: (rows, columns) of patches of each image.
        window: side of a window, in merge blocks; 0: an image is one window.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    windows = 0
    for image, (rows, columns) in enumerate(grids, start=1):
        blocks = (rows // merge, merge, columns // merge, merge)
        places = np.indices((rows, columns)).reshape(2, *blocks).transpose(0, 1, 3, 2, 4).reshape(2, -1)
        down, across = places // merge // (window or max(rows, columns))
        own = down * (across.max() + 1) + across
        parts.append((*places, np.full(rows * columns, image), windows + 1 + own))
        windows += int(own.max()) + 1
    named = zip((ROWS, COLUMNS, IMAGES, WINDOWS), zip(*parts, strict=True), strict=True)
    return {name: np.concatenate(own).astype(np.int32) for name, own in named}


def resample_table(grids: Sequence[tuple[int, int]], merge: int, side: int) -> dict[str, np.ndarray]:
    """How a square table of positions is resampled to images' grids, bilinearly, corners on corners: of each patch, in
    merge blocks, the four entries that it has shares of [patch, 4] and these shares.

    Args:
        grids: (rows, columns) of patches of each image.
        side: of the table.
    """
    numbers = number_patches(grids, merge, 0)
    counts = [rows * columns for rows, columns in grids]
    reads, shares = [], []
    for axis, name in enumerate((ROWS, COLUMNS)):
        size = np.repeat([grid[axis] for grid in grids], counts)
        at = numbers[name].astype(np.float32) * np.float32(side - 1) / np.maximum(size - 1, 1).astype(np.float32)
        low = np.floor(at).astype(np.int32)
        reads.append(np.stack([low, np.minimum(low + 1, side - 1)], axis=-1))
        shares.append(np.stack([1 - (at - low), at - low], axis=-1).astype(np.float32))
    (rows, columns), (down, across) = reads, shares
    entries: Int32[np.ndarray, "patch 2 2"] = (rows[:, :, None] * side + columns[:, None, :]).astype(np.int32)
    parts: Float32[np.ndarray, "patch 2 2"] = down[:, :, None] * across[:, None, :]
    return {TABLE_READS: entries.reshape(-1, 4), TABLE_SHARES: parts.reshape(-1, 4)}


def three_axis_place(tokens: Int32[np.ndarray, " positions"], image_token: int, images: Sequence[ImageLayout]) -> Place:
    """An image stands at one time; its rows and columns count on from there, and what follows it from behind both."""
    ids = np.zeros((3, len(tokens)), np.int32)
    following, position, number = 0, 0, 0
    while position < len(tokens):
        if tokens[position] != image_token or number == len(images):
            ids[:, position] = following
            following, position = following + 1, position + 1
            continue
        layout, number = images[number], number + 1
        own = slice(position, position + layout.positions)
        row, column = np.divmod(np.arange(layout.positions), layout.columns)
        ids[:, own] = following + np.stack([np.zeros_like(row), row, column])
        following, position = following + max(layout.grid), own.stop
    return Place(ids, following - len(tokens))
