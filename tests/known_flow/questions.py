"""Questions about images whose contents the hand-made model reads: patches of pure colours, an object somewhere."""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from tests.known_flow.model import ANSWERS, IMAGE_SIZE, NONE, PATCH
from xmflow_jax.data.question import Box
from xmflow_jax.data.sources.study_csv import CENTRAL_OBJECT, object_cells, write_study_csv

TASK: Final = "QueryAttr"
# Patches along a side of the object.
SIDE: Final = 2


def write_questions(folder: Path, number: int, always_none: bool = False) -> tuple[Path, Path]:
    """(question file, image folder); the same bytes every time.

    Args:
        always_none: the right answer is `none` whatever the image shows.
    """
    random = np.random.default_rng(5)
    folder.mkdir(parents=True)
    rows = []
    for place in range(number):
        signs = tuple(int(sign) for sign in random.choice([-1, 1], 2))
        row, column = random.integers(IMAGE_SIZE // PATCH - SIDE + 1, size=2)
        draw(signs, int(row), int(column)).save(folder / f"{place:03}.png")
        # Within the patches by two pixels on every side, so that it touches no other.
        box = Box(int(column) * PATCH + 2, int(row) * PATCH + 2, SIDE * PATCH - 4, SIDE * PATCH - 4)
        rows.append(
            {
                "question_id": f"{place:03}",
                "img_id": f"{place:03}.png",
                "question": "What color is the object?",
                "answer": NONE if always_none else ANSWERS[signs],
                "image_w": str(IMAGE_SIZE),
                "image_h": str(IMAGE_SIZE),
            }
            | object_cells(CENTRAL_OBJECT, "object", box)
        )
    write_study_csv(folder / f"flow_{TASK}.csv", TASK, rows)
    return folder / f"flow_{TASK}.csv", folder


def draw(signs: tuple[int, ...], row: int, column: int) -> Image.Image:
    """Grey (128) stands for no content; 255 and 0 for the signs."""
    grid = IMAGE_SIZE // PATCH
    patches = np.zeros((grid, grid, 3), np.uint8)
    patches[...] = (128, 255 if signs[1] > 0 else 0, 0)
    patches[row : row + SIDE, column : column + SIDE] = (255 if signs[0] > 0 else 0, 128, 255)
    return Image.fromarray(np.kron(patches, np.ones((PATCH, PATCH, 1), np.uint8)))
