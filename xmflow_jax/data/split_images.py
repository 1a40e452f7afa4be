"""How InternVL and Idefics3 split an image: stretched to a grid of whole tiles, none of it padding, and the image
itself as a last tile where there is more than one.

Sources: `image_processing_got_ocr2` and `image_processing_idefics3` of transformers 5.24, which choose the grids in
this way.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from xmflow_jax.data import roles
from xmflow_jax.data.images import FEATURE, ImageLayout

# (rows, columns) of tiles; `WHOLE` where an image is one tile, not split.
Grid = tuple[int, int]
WHOLE: Final[Grid] = (0, 0)

# Pixels of a resized image's longer side, at most (Idefics3).
LONGEST: Final = 4096


def closest_grid(size: tuple[int, int], tile: int, least: int, most: int) -> Grid:
    """The grid of the shape that is closest to an image's; among equals the one with most tiles, as long as the image
    has more than half of its pixels.

    Args:
        size: (width, height) of the image.
        tile: side in pixels.
        least, most: tiles of a grid.
    """
    width, height = size
    shapes = [(down, across) for across in range(1, most + 1) for down in range(1, most // across + 1)]
    grids = sorted((one for one in shapes if one[0] * one[1] >= least), key=lambda one: one[0] * one[1])
    best, smallest = (1, 1), math.inf
    for down, across in grids:
        difference = abs(width / height - across / down)
        tied = difference == smallest and width * height > 0.5 * tile**2 * down * across
        if difference < smallest or tied:
            best, smallest = (down, across), difference
    return WHOLE if best == (1, 1) else best


def covering_grid(size: tuple[int, int], tile: int, longest: int) -> Grid:
    """The grid that an image covers once its longer side has been scaled to `longest` pixels and both sides have been
    stretched to whole tiles.

    Args:
        size: (width, height) of the image.
        tile: side in pixels.
    """
    shorter = _shorter(size, longest)
    size = _like(size, longest, max(shorter + shorter % 2, 1))
    if longest > LONGEST:
        size = _like(size, LONGEST, max(_shorter(size, LONGEST), 1))
    many = math.ceil(max(size) / tile)
    few = math.ceil(_shorter(size, many * tile) / tile)
    if many == few == 1:
        return WHOLE
    return (few, many) if size[0] >= size[1] else (many, few)


def _shorter(size: tuple[int, int], longer: int) -> int:
    """The shorter side of an image of the shape of `size` whose longer side is `longer`; the rounding is published."""
    ratio = size[0] / size[1]
    return int(longer / ratio) if size[0] >= size[1] else int(longer * ratio)


def _like(size: tuple[int, int], longer: int, shorter: int) -> tuple[int, int]:
    """(width, height) of an image that lies or stands as `size` does."""
    return (longer, shorter) if size[0] >= size[1] else (shorter, longer)


def split_layout(grid: Grid, side: int, cell: int, between: Sequence[Sequence[int]]) -> ImageLayout:
    """How an image lies in its positions: the cells of every tile row by row, tile by tile, those of the whole last.

    Its picture (`Processing.plain_pixels`) is that of `draw_split`: the whole, and below it the tiles.

    Args:
        side: of a tile, in cells; each cell has a position.
        cell: side in pixels.
        between: tokens before the first tile, between each two of them and the whole, and behind the whole.
    """
    rows, columns = grid
    row, column = np.divmod(np.arange(side * side), side)
    own = np.stack([column, row, column + 1, row + 1], axis=-1)
    corners = [(across * side, (down + 1) * side) for down in range(rows) for across in range(columns)]
    tiles = [own + np.array([left, top, left, top]) for left, top in corners]
    boxes = cell * np.concatenate([*tiles, own])
    tokens = [*between[0]]
    for marks in between[1:]:
        tokens += [FEATURE] * side**2 + [*marks]
    whole = np.arange(len(boxes)) >= len(boxes) - side**2
    views = {roles.IMAGE_BASE: whole, roles.IMAGE_TILES: ~whole}
    down, across = side * (rows + 1), side * max(columns, 1)
    return ImageLayout(down, across, cell, boxes.astype(np.int32), np.array(tokens, np.int32), views)


def draw_split(tiles: np.ndarray, grid: Grid) -> np.ndarray:
    """One picture of an image's tiles: the whole, below it the grid; what neither covers is black.

    Args:
        tiles: [tile, side, side, 3], the whole last.
    """
    rows, columns = grid
    whole, side = tiles[-1], tiles.shape[1]
    if grid == WHOLE:
        return whole
    canvas = tiles[:-1].reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    beside = np.zeros((side, columns * side - side, 3), tiles.dtype)
    below = canvas.reshape(rows * side, columns * side, 3)
    return np.concatenate([np.concatenate([whole, beside], axis=1), below])
