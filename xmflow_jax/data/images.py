"""How an image lies in the positions that hold it: each image by a grid of its own, each position by its pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from jaxtyping import Bool, Int32

# Among an image's tokens: a position that holds a feature of the image, whatever token id the model marks it with.
FEATURE: Final = -1

# Where a family hands its model a mapping of arrays of a prompt's images, the one that holds their normalised colours.
COLOURS: Final = "colours"

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class ImageLayout:
    """One image of a prompt, or the image that a model reads from outside its prompt.

    Pixels are those of the picture that the image processor leaves (`Processing.plain_pixels`): resized, padded, cut.

    Attributes:
        rows, columns: of the grid of patches that the picture is cut into.
        side: of a patch, in pixels.
        boxes: of each position that holds a feature of the image, in order, the pixels that it shows: left, top,
            right, bottom, the last two just beyond. All zeros where it shows none of its own (a class token, which
            shows the whole image; a newline).
        tokens: what `<image>` stands for in a prompt: `FEATURE`, or the token id of a mark that the family's processor
            puts around or between (vision start and end). Empty where the image is read from outside the prompt.
        views: which positions show which view of the image, by role (`roles.VIEW_ROLES`); empty where there is one.
        text_before, text_behind: what the family's processor puts around these tokens as text (line ends). It is told
            in tokens together with the prompt's text beside it, since tokens may reach from one into the other.
    """

    rows: int
    columns: int
    side: int
    boxes: Int32[np.ndarray, "positions 4"]
    tokens: Int32[np.ndarray, " tokens"]
    views: Mapping[str, Bool[np.ndarray, " positions"]] = field(default_factory=dict)
    text_before: str = ""
    text_behind: str = ""

    @property
    def positions(self) -> int:
        """Positions that hold a feature of the image."""
        return len(self.boxes)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    def box(self, position: int) -> Box | None:
        """The pixels that a position shows: left, top, right, bottom; None where it shows none of its own."""
        left, top, right, bottom = map(int, self.boxes[position])
        return (left, top, right, bottom) if right > left else None

    @cached_property
    def _cells(self) -> Int32[np.ndarray, " positions"]:
        """The patch of the grid that each position shows, counted row by row; -1 where it is not exactly one."""
        left, top, right, bottom = self.boxes.T
        one_patch = (right - left == self.side) & (bottom - top == self.side)
        aligned = (left % self.side == 0) & (top % self.side == 0)
        return np.where(one_patch & aligned, top // self.side * self.columns + left // self.side, -1).astype(np.int32)

    def on_grid(self, positions: Bool[np.ndarray, " positions"]) -> Bool[np.ndarray, "rows columns"]:
        """The patches of the grid that these positions show."""
        drawn = np.zeros(self.rows * self.columns, bool)
        cells = self._cells[positions]
        drawn[cells[cells >= 0]] = True
        return drawn.reshape(self.grid)


@lru_cache(maxsize=64)
def patch_layout(rows: int, columns: int, side: int, *, class_positions: int = 0, in_prompt: bool) -> ImageLayout:
    """The plain case: patches row by row, each at a position of its own.

    Args:
        rows, columns, side: as of `ImageLayout`.
        class_positions: before the first patch, such as 1 where a tower's class token is kept.
        in_prompt: whether the image stands in the prompt; without marks.
    """
    row, column = np.divmod(np.arange(rows * columns, dtype=np.int32), columns)
    boxes = side * np.stack([column, row, column + 1, row + 1], axis=-1)
    boxes = np.concatenate([np.zeros((class_positions, 4), np.int32), boxes]).astype(np.int32)
    tokens = np.full(len(boxes) if in_prompt else 0, FEATURE, np.int32)
    for array in (boxes, tokens):
        array.flags.writeable = False  # every question is handed the same
    return ImageLayout(rows, columns, side, boxes, tokens)
