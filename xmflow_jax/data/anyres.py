"""How LLaVA-NeXT and its descendants cut an image into tiles ("anyres"): which canvas, which cells of it are kept.

The whole image, squashed to one square tile, comes first. Then the image is scaled to fit a canvas of several tiles,
padded to its middle, and cut into tiles in reading order. Of the tiles' patches, merged to one grid of cells, those
that hold padding alone are dropped, and each row that is left ends with a newline.

Sources: LLaVA-NeXT's release notes (January 2024); `image_processing_utils` and `modeling_llava_next` of transformers
5.24, which choose canvas and cells in this way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from xmflow_jax.data import roles
from xmflow_jax.data.images import FEATURE, ImageLayout
from xmflow_jax.nn.pictures import LEARNED

# (height, width) in pixels.
Canvas = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """An image of one size, cut into tiles.

    Attributes:
        rows, columns: of the canvas, in tiles.
        side: of a tile, in cells (patches).
        first_row, last_row, first_column, last_column: the cells of the canvas that are kept, the last just beyond.
    """

    rows: int
    columns: int
    side: int
    first_row: int
    last_row: int
    first_column: int
    last_column: int

    @property
    def tiles(self) -> int:
        """Tiles of the canvas, the squashed whole not among them."""
        return self.rows * self.columns


def choose_canvas(size: tuple[int, int], canvases: Sequence[Canvas]) -> Canvas:
    """The canvas on which most of an image's pixels survive; among equals the one with the least beside them.

    Args:
        size: (width, height) of the image.
    """
    width, height = size

    def fit(canvas: Canvas) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        surviving = min(int(width * scale) * int(height * scale), width * height)
        return surviving, surviving - canvas[0] * canvas[1]

    return max(canvases, key=fit)


def cut_image(size: tuple[int, int], canvases: Sequence[Canvas], tile: int, patch: int) -> Tiling:
    """An image's tiles and the cells that are kept of them.

    Args:
        size: (width, height) of the image.
        tile, patch: sides in pixels.
    """
    width, height = size
    canvas_height, canvas_width = choose_canvas(size, canvases)
    side = tile // patch
    rows, columns = canvas_height // tile, canvas_width // tile
    cells_high, cells_wide = rows * side, columns * side
    cut_rows = cut_columns = 0
    # The rounding is published: it decides about single rows.
    if width / height > cells_wide / cells_high:
        cut_rows = (cells_high - int(round(height * (cells_wide / width), 7))) // 2
    else:
        cut_columns = (cells_wide - int(round(width * (cells_high / height), 7))) // 2
    return Tiling(rows, columns, side, cut_rows, cells_high - cut_rows, cut_columns, cells_wide - cut_columns)


def read_features(tiling: Tiling) -> Int32[np.ndarray, " positions"]:
    """The feature that each of an image's positions reads: of the first tile (the whole) those numbered from 0, of the
    next ones those behind; `LEARNED` at a newline."""
    side = tiling.side
    row = np.arange(tiling.first_row, tiling.last_row)[:, None]
    column = np.arange(tiling.first_column, tiling.last_column)
    tile = row // side * tiling.columns + column // side
    cells = (tile + 1) * side * side + row % side * side + column % side
    lines = np.concatenate([cells, np.full((len(cells), 1), LEARNED)], axis=1)
    return np.concatenate([np.arange(side * side), lines.ravel()]).astype(np.int32)


def most_cells(tiling: Tiling, tiles: int) -> tuple[int, int]:
    """(rows, columns) that the kept cells are resampled to where they fill more than so many tiles ("anyres_max").

    Source: transformers 5.24, `modeling_llava_onevision`, `pack_image_features`.
    """
    rows, columns = tiling.last_row - tiling.first_row, tiling.last_column - tiling.first_column
    ratio = math.sqrt(rows * columns / (tiles * tiling.side**2))
    # Grids that are hardly larger are left as they are.
    return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)


def blend_features(
    tiling: Tiling, grid: tuple[int, int]
) -> tuple[Int32[np.ndarray, "positions 4"], Float32[np.ndarray, "positions 4"]]:
    """The features that each of an image's positions reads, as `read_features` numbers them, and their shares.

    The kept cells are resampled to (rows, columns), bilinearly, cells' middles where they were.
    """
    cells = tiling.side**2
    numbers = read_features(tiling)
    columns = tiling.last_column - tiling.first_column
    kept = numbers[cells:].reshape(-1, columns + 1)[:, :-1]
    row, column = (_neighbours(old, new) for old, new in zip(kept.shape, grid, strict=True))
    reads = np.stack([kept[np.ix_(down, across)] for down in row[0] for across in column[0]], axis=-1)
    shares = np.stack([np.outer(down, across) for down in row[1] for across in column[1]], axis=-1)
    ends = np.full((grid[0], 1, 4), LEARNED), np.tile([1.0, 0, 0, 0], (grid[0], 1, 1))
    lines = [np.concatenate([own, end], axis=1).reshape(-1, 4) for own, end in zip((reads, shares), ends, strict=True)]
    whole = np.repeat(numbers[:cells, None], 4, axis=1), np.tile([1.0, 0, 0, 0], (cells, 1))
    found, weight = (np.concatenate(pair) for pair in zip(whole, lines, strict=True))
    return found.astype(np.int32), weight.astype(np.float32)


def _neighbours(old: int, new: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Along one axis of `old` cells: of each of `new` places the two cells beside it, and their shares."""
    place = np.maximum((np.arange(new) + 0.5) * (old / max(new, 1)) - 0.5, 0)
    first = place.astype(int)
    return (first, np.minimum(first + 1, old - 1)), (1 - (place - first), place - first)


def tiled_layout(tiling: Tiling, patch: int, grid: tuple[int, int] | None = None) -> ImageLayout:
    """How an image that is cut into tiles lies in its positions.

    Its picture (`Processing.plain_pixels`) is that of `draw_views`: the squashed whole, and below it the canvas.

    Args:
        patch: side in pixels.
        grid: (rows, columns) that the kept cells are resampled to; None: they are not. The box of a resampled position
            is its share of the kept cells' pixels.
    """
    side, across = tiling.side, max(tiling.side, tiling.columns * tiling.side)
    whole = _boxes(np.arange(side + 1), np.arange(side + 1)) * patch
    rows, columns = tiling.last_row - tiling.first_row, tiling.last_column - tiling.first_column
    down, right = grid or (rows, columns)
    lines_at = np.rint((tiling.first_row + side + np.linspace(0, rows, down + 1)) * patch)
    cells = _boxes(lines_at, np.rint((tiling.first_column + np.linspace(0, columns, right + 1)) * patch))
    lines = np.concatenate([cells, np.zeros((down, 1, 4))], axis=1)
    boxes = np.concatenate([whole.reshape(-1, 4), lines.reshape(-1, 4)])
    newline = boxes[:, 2] == 0
    base = np.arange(len(boxes)) < side * side
    views = {roles.IMAGE_BASE: base, roles.IMAGE_TILES: ~base & ~newline, roles.IMAGE_NEWLINE: newline}
    return ImageLayout(
        side + tiling.rows * side, across, patch, boxes.astype(np.int32), np.full(len(boxes), FEATURE, np.int32), views
    )


def _boxes(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[row, column, 4]: left, top, right, bottom of the cells between these lines."""
    corners = np.stack(np.meshgrid(columns, rows), axis=-1)
    return np.concatenate([corners[:-1, :-1], corners[1:, 1:]], axis=-1)


def draw_views(tiles: np.ndarray, tiling: Tiling) -> np.ndarray:
    """One picture of all tiles: the squashed whole, below it the canvas; what neither covers is black.

    Args:
        tiles: [tile, side, side, 3], the whole first.
    """
    whole, side = tiles[0], tiles.shape[1]
    canvas = tiles[1:].reshape(tiling.rows, tiling.columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    canvas = canvas.reshape(tiling.rows * side, tiling.columns * side, 3)
    beside = np.zeros((side, canvas.shape[1] - side, 3), tiles.dtype)
    return np.concatenate([np.concatenate([whole, beside], axis=1), canvas])
