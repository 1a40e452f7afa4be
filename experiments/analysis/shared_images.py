"""What questions that share images do to intervals and p-values: the summary's statistics, and the same without knowing
of images.

    python -m experiments.analysis.shared_images

Values of questions are drawn of which two about one image have the stated correlation. Printed are the coverage of 95 %
intervals and the share of p-values up to 5 % where nothing is there to be found, each with, in brackets, what it would
be if every question were taken as one about its own image.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from experiments.analysis.interval_coverage import Draw, held, lost_and_gained
from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.analysis.permutation import sign_flip_p_values

CORRELATIONS = (0.0, 0.3, 0.6, 0.9)

# Numbers of questions of an image, repeated over the images.
DESIGNS: dict[str, Sequence[int]] = {
    "1 question an image": (1,),
    "2 questions an image": (2,),
    "4 questions an image": (4,),
    "8 questions an image": (8,),
    "1 to 8 questions an image": (1, 2, 3, 4, 5, 6, 7, 8),
    "1, of every tenth 8": (1, 1, 1, 1, 1, 1, 1, 1, 1, 8),
}

# (draw of independent values, their mean)
CASES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda random, shape: random.normal(1, 1, shape), 1.0),
    "relative change": (
        lambda random, shape: 100 * np.minimum(random.exponential(0.7, shape), 3) - 100,
        70 * (1 - np.exp(-3 / 0.7)) - 100,
    ),
    "30 % lost, 10 % gained": (lost_and_gained(0.3, 0.1), 20.0),
}
# The same with a mean of zero and symmetric: the null of the sign-flip test.
NULLS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "20 % lost, 20 % gained": lost_and_gained(0.2, 0.2),
}


def images_of(design: Sequence[int], images: int) -> np.ndarray:
    """The image of each question."""
    return np.repeat(np.arange(images), np.resize(design, images))


def correlated(draw: Draw, random: np.random.Generator, images: np.ndarray, simulations: int, r: float) -> np.ndarray:
    """Values (questions, simulations) distributed as `draw`'s; those about one image have correlation `r`.

    Each question has its image's value with probability sqrt(r), else one of its own.
    """
    shape = (len(images), simulations)
    common = draw(random, (images[-1] + 1, simulations))[images]
    return np.where(random.random(shape) < np.sqrt(r), common, draw(random, shape))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    heads = "".join(f"{f'r = {r:g}':>16}" for r in CORRELATIONS)
    print(f"coverage in percent of 95 % intervals, {options.simulations} simulations each\n{'':60}{heads}")
    for case, (draw, truth) in CASES.items():
        for design, images, values in _simulated(draw, options.images, options.simulations):
            cells = []
            for one in values:
                ends = [bootstrap_intervals(one, resamples=options.resamples, images=own) for own in (images, None)]
                cells.append(_pair([held(own.low, own.high, truth) for own in ends]))
            print(f"{case:24}{design:26}{images[-1] + 1:4} images{''.join(cells)}", flush=True)
    print(f"\npercent of p-values up to 0.05 without an effect; normal: lowest p-value of uniformity\n{'':60}{heads}")
    for case, draw in NULLS.items():
        for design, images, values in _simulated(draw, options.images, options.simulations):
            cells, uniform = [], []
            for one in values:
                p = [sign_flip_p_values(one, options.resamples - 1, images=own) for own in (images, None)]
                cells.append(_pair([float((own <= 0.05 + 1e-12).mean()) for own in p]))
                uniform.append(stats.kstest(p[0], "uniform").pvalue)
            end = f"{min(uniform):8.2f}" if case == "normal" else ""
            print(f"{case:24}{design:26}{images[-1] + 1:4} images{''.join(cells)}{end}", flush=True)


def _simulated(
    draw: Draw, numbers: Sequence[int], simulations: int
) -> Iterator[tuple[str, np.ndarray, list[np.ndarray]]]:
    """(design, image of each question, values at each correlation) of every design and number of images."""
    for design, sizes in DESIGNS.items():
        for number in numbers:
            images = images_of(sizes, number)
            values = [correlated(draw, np.random.default_rng(1), images, simulations, r) for r in CORRELATIONS]
            yield design, images, values


def _pair(shares: Sequence[float]) -> str:
    return f"{100 * shares[0]:9.1f} ({100 * shares[1]:4.1f})"


if __name__ == "__main__":
    main()
