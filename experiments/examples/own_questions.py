"""A study of one's own questions: `python -m experiments.examples.own_questions [--out FOLDER] [--model MODEL]`.

A data set is any iterable of `Question` records, given to `run_sweep` as `data`. A question needs an id, its image's id
and file, its text, the right answer, and a task; figures and tables are made for each task. Whatever else the data tell
makes more pathways possible: boxes those from and to `Image Central Object`, options those of `True Option` and
`False Option`. `answers` holds what several people answered, and `scorer` names the rule that answers are scored by.

Here the data are drawn: discs of one of two colours somewhere in a grey image.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from xmflow_jax import run_sweep
from xmflow_jax.data.question import Box, Question

SIDE, RADIUS = 96, 12
COLORS = {"red": (214, 40, 40), "blue": (38, 84, 214)}


def disc_questions(folder: Path, count: int) -> Iterator[Question]:
    """Is the disc red or blue? The images are written as the questions are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        right, wrong = list(COLORS) if number % 2 else reversed(COLORS)
        x, y = (int(place) for place in generator.integers(RADIUS, SIDE - RADIUS, 2))
        image = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
        ImageDraw.Draw(image).circle((x, y), RADIUS, fill=COLORS[right])
        path = folder / f"disc{number}.png"
        image.save(path)
        yield Question(
            question_id=f"{number}",
            image_id=path.stem,
            image_path=path,
            text="Is the circle red or blue?",
            answer=right,
            task="DiscColor",
            true_option=right,
            false_option=wrong,
            central_object="circle",
            boxes=(Box(x - RADIUS, y - RADIUS, 2 * RADIUS + 1, 2 * RADIUS + 1),),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the data, sweeps two pathways over all layers, and prints the mean effect at each layer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--model", default="shapes-llava", help="as the sweep's (default: shapes-llava)")
    parser.add_argument("--questions", type=int, default=16, help="how many to draw (default: 16)")
    parser.add_argument("--out", type=Path, default=Path("runs/own-questions"), help="folder of the run and its images")
    given = parser.parse_args(arguments)
    result = run_sweep(
        model=given.model,
        data=disc_questions(given.out / "images", given.questions),
        pathways="Image Central Object->Last, Image->Last",
        select="all",
        out=given.out / "run",
        say=print,
    )
    print(result.rows.pivot_table("relative_change", "layer", "pathway").round(1).to_string())


if __name__ == "__main__":
    main()
