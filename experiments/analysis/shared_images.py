"""What questions that share images do to intervals, p-values and power: the summary's statistics, and the same
without knowing of images.

    python -m experiments.analysis.shared_images

Values of questions are drawn of which two about one image have the stated correlation. Printed are the coverage of 95 %
intervals and the share of p-values up to 5 % where nothing is there to be found, each with, in brackets, what it would
be if every question were taken as one about its own image; then the loss of accuracy that the test finds in 80 % of
simulated runs, the one that is told from those runs, and the least and most that single ones of 24 layers tell.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import stats

from experiments.analysis.interval_coverage import Draw, held, lost_and_gained
from xmflow_jax.analysis.accuracy import effective_questions, wilson_interval
from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.analysis.permutation import sign_flip_p_values
from xmflow_jax.analysis.power import POWER, smallest_loss
from xmflow_jax.analysis.simulated_runs import alike_images

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
# Shares of answers that a knockout gains, for power.
GAINED = (0.0, 0.01, 0.05)


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


def seen_and_told(
    images: np.ndarray, gained: float, r: float, simulations: int, draws: int = 999
) -> tuple[float, float] | None:
    """(the loss, 0 to 1, that the sign-flip test sees in 80 % of runs, the one that such runs tell); None: no loss is.

    Args:
        images: the image of each question.
        gained: the share of answers that a knockout gains.
        r: correlation of two questions about one image.
    """

    def losses(loss: float) -> np.ndarray:
        draw = lost_and_gained(loss + gained, gained)
        return correlated(draw, np.random.default_rng(5), images, simulations, r) / 100

    def share(loss: float) -> float:
        return float((sign_flip_p_values(losses(loss), draws, images=images) <= 0.05 + 1e-12).mean())

    low, high = 0.0, 0.99 - 2 * gained
    if share(high) < POWER:
        return None
    while high - low > 0.01 * high:  # the power grows with the loss, and the random numbers are the same
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < POWER else (low, middle)
    told = smallest_loss(alike_images(losses(high), images), 0.95)
    return high, np.nan if told is None else told


def accuracies_held(images: np.ndarray, r: float, simulations: int, share: float = 0.8) -> list[float]:
    """How often intervals of accuracies hold the share of right answers: knowing of images, and not."""
    right = correlated(
        lambda random, shape: random.random(shape) < share, np.random.default_rng(0), images, simulations, r
    )
    worth: tuple[Callable[[np.ndarray], float], ...] = (lambda one: effective_questions(one, images), len)
    held_by = []
    for of in worth:
        ends = [wilson_interval(float(one.mean()), of(one)) for one in right.T.astype(float)]
        held_by.append(float(np.mean([low <= share <= high for low, high in ends])))
    return held_by


def told_by_runs(
    images: np.ndarray, gained: float, r: float, loss: float, runs: int = 10, layers: int = 24
) -> tuple[float, float]:
    """The least and the most that single runs with this loss tell of what they could have seen, over that loss."""
    draw = lost_and_gained(loss + gained, gained)
    losses = correlated(draw, np.random.default_rng(6), images, runs * layers, r) / 100
    told = [
        smallest_loss(alike_images(losses[:, first : first + layers], images), 0.95) or np.nan
        for first in range(0, runs * layers, layers)
    ]
    return float(np.min(told) / loss), float(np.max(told) / loss)


def main() -> None:
    """Print the tables."""
    parts = {"coverage": print_coverage, "p-values": print_p_values, "power": print_power}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS), metavar="DESIGN")
    parser.add_argument("--gained", type=float, nargs="+", default=list(GAINED), help="of power: shares of the answers")
    options = parser.parse_args()
    for name in options.parts:
        parts[name](options)


def print_coverage(options: argparse.Namespace) -> None:
    """How often intervals hold the truth."""
    heads = "".join(f"{f'r = {r:g}':>16}" for r in CORRELATIONS)
    print(f"coverage in percent of 95 % intervals, {options.simulations} simulations each\n{'':60}{heads}")
    for case, (draw, truth) in CASES.items():
        for design, images, values in _simulated(draw, options):
            cells = []
            for one in values:
                ends = [bootstrap_intervals(one, resamples=options.resamples, images=own) for own in (images, None)]
                cells.append(_pair([held(own.low, own.high, truth) for own in ends]))
            print(f"{case:24}{design:26}{images[-1] + 1:4} images{''.join(cells)}", flush=True)
    for design, number, images in _designs(options):
        cells = [_pair(accuracies_held(images, r, options.simulations)) for r in CORRELATIONS]
        print(f"{'accuracy of 80 %':24}{design:26}{number:4} images{''.join(cells)}", flush=True)


def print_p_values(options: argparse.Namespace) -> None:
    """How p-values lie without an effect."""
    heads = "".join(f"{f'r = {r:g}':>16}" for r in CORRELATIONS)
    print(f"\npercent of p-values up to 0.05 without an effect; normal: lowest p-value of uniformity\n{'':60}{heads}")
    for case, draw in NULLS.items():
        for design, images, values in _simulated(draw, options):
            cells, uniform = [], []
            for one in values:
                p = [sign_flip_p_values(one, options.resamples - 1, images=own) for own in (images, None)]
                cells.append(_pair([float((own <= 0.05 + 1e-12).mean()) for own in p]))
                uniform.append(stats.kstest(p[0], "uniform").pvalue)
            end = f"{min(uniform):8.2f}" if case == "normal" else ""
            print(f"{case:24}{design:26}{images[-1] + 1:4} images{''.join(cells)}{end}", flush=True)


def print_power(options: argparse.Namespace) -> None:
    """The loss that four of five runs find, and what runs tell of it."""
    heads = "".join(f"{f'r = {r:g}':>30}" for r in CORRELATIONS)
    print(f"\nloss seen in 80 % of runs, in points / told (least and most told by a run), of that\n{'':60}{heads}")
    for gained in options.gained:
        for design, number, images in _designs(options):
            found = [seen_and_told(images, gained, r, options.simulations) for r in CORRELATIONS]
            cells = []
            for r, pair in zip(CORRELATIONS, found, strict=True):
                if pair is None:
                    cells.append(f"{'none':>30}")
                    continue
                least, most = told_by_runs(images, gained, r, pair[0])
                told = f"{pair[1] / pair[0]:.2f} ({least:.2f} to {most:.2f})"
                cells.append(f"{100 * pair[0]:9.2f} / {told:18}")
            print(f"{100 * gained:3g} % gained             {design:26}{number:4} images{''.join(cells)}", flush=True)


def _designs(options: argparse.Namespace) -> Iterator[tuple[str, int, np.ndarray]]:
    """(design, number of images, image of each question) of every design and number that is asked for."""
    for design in options.designs:
        for number in options.images:
            yield design, number, images_of(DESIGNS[design], number)


def _simulated(draw: Draw, options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, list[np.ndarray]]]:
    """(design, image of each question, values at each correlation) of every design and number of images."""
    for design, _, images in _designs(options):
        simulations = options.simulations
        values = [correlated(draw, np.random.default_rng(1), images, simulations, r) for r in CORRELATIONS]
        yield design, images, values


def _pair(shares: Sequence[float]) -> str:
    return f"{100 * shares[0]:9.1f} ({100 * shares[1]:4.1f})"


if __name__ == "__main__":
    main()
