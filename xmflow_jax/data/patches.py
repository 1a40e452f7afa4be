"""Which of an image's positions show the objects asked about, and which show padding only.

Both are found by sending a painted image through the checkpoint's own image processor, never by a formula for what
that processor does.

Source: the released code of arXiv 2411.18620 (`create_mask_with_bbox`, `prepare_image_patch_bbx`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image, ImageDraw

from xmflow_jax.data.images import ImageLayout
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.question import Box
from xmflow_jax.errors import QuestionSetAside

_OBJECT: Final = (255, 0, 0)
_BACKGROUND: Final = (0, 255, 0)


def object_positions(
    processing: Processing, size: tuple[int, int], boxes: Sequence[Box]
) -> Bool[np.ndarray, " positions"]:
    """The image's positions of which at least one pixel kept the colour of a painted box.

    Resizing blends colours at a box's edges, and blended pixels do not count: a patch that a box touches only with its
    rim may be missing, and a box that a centre crop cuts away has no patch at all.

    Args:
        processing: whose image processor and image layout to use.
        size: (width, height) of the original image.
        boxes: in pixels of the original image; what reaches beyond it is clipped.

    Raises:
        QuestionSetAside: a box has no area, or none of it lies inside the image.
    """
    width, height = size
    for box in boxes:
        if box.width <= 0 or box.height <= 0:
            raise QuestionSetAside(f"the object's box {_words(box)} has no area")
        if box.x >= width or box.y >= height or box.x + box.width <= 0 or box.y + box.height <= 0:
            raise QuestionSetAside(f"the object's box {_words(box)} lies outside the image of {width}x{height}")
    pixels = processing.plain_pixels(_paint(size, boxes))
    found, _ = _counted(np.all(pixels == _OBJECT, axis=-1), processing.image_layout(size))
    return found > 0


@lru_cache(maxsize=128)
def padding_positions(processing: Processing, size: tuple[int, int]) -> Bool[np.ndarray, " positions"]:
    """The positions that show nothing of an image of this (width, height), but padding.

    A pixel is padding if it is the same for a black and for a white image. Where resizing blurs the image's edge into
    the padding, the patch next to it therefore counts as part of the image.
    """
    black, white = (processing.plain_pixels(Image.new("RGB", size, (grey, grey, grey))) for grey in (0, 255))
    found, pixels = _counted(np.all(black == white, axis=-1), processing.image_layout(size))
    padding = (found == pixels) & (pixels > 0)
    padding.flags.writeable = False  # every question about an image of this size is handed the same array
    return padding


def _paint(size: tuple[int, int], boxes: Sequence[Box]) -> Image.Image:
    """The boxes in pure red on green, as the released code paints them: right and lower edge included."""
    mask = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(mask)
    for box in boxes:
        draw.rectangle((box.x, box.y, box.x + box.width, box.y + box.height), fill=_OBJECT)
    return mask


def _counted(
    pixels: Bool[np.ndarray, "height width"], layout: ImageLayout
) -> tuple[Int64[np.ndarray, " positions"], Int64[np.ndarray, " positions"]]:
    """How many of each position's pixels are True, and how many it shows: none for one without a box."""
    # Entry (y, x): how many of the pixels above and left of that corner are True.
    corner = np.pad(pixels.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    left, top, right, bottom = layout.boxes.T
    found = corner[bottom, right] - corner[top, right] - corner[bottom, left] + corner[top, left]
    return found, (right - left).astype(np.int64) * (bottom - top)


def _words(box: Box) -> str:
    return f"(x {box.x}, y {box.y}, width {box.width}, height {box.height})"
