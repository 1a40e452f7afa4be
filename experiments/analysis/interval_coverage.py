"""How often 95 % intervals hold the truth, by method: why the summary's are what they are.

    python -m experiments.analysis.interval_coverage

Columns of simulated questions are drawn from distributions whose mean is known; a method's coverage is the share of
columns whose interval holds it. The plain percentile and the BCa interval are SciPy's.
"""

import argparse
import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

from xmflow_jax.analysis.bootstrap import bootstrap_intervals

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def relative_changes(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Percent, of a probability that a knockout lowers as a rule and raises at times."""
    base = random.beta(5, 2, shape)
    knockout = np.minimum(base * np.exp(random.normal(-0.3, 0.8, shape)), 1.0)
    return 100 * (knockout - base) / base


def lost_and_gained(lost: float, gained: float) -> Draw:
    """Points per question."""
    return lambda random, shape: 100 * random.choice([1.0, -1.0, 0.0], shape, p=[lost, gained, 1 - lost - gained])


# (draw, truth or None where it is found by drawing, the least and largest value where the summary knows them)
CASES: dict[str, tuple[Draw, float | None, tuple[float, float] | None]] = {
    "normal": (lambda random, shape: random.normal(1, 1, shape), 1.0, None),
    "relative change": (relative_changes, None, None),
    "2 % lost": (lost_and_gained(0.02, 0), 2.0, (0, 100)),
    "5 % lost": (lost_and_gained(0.05, 0), 5.0, (0, 100)),
    "10 % lost": (lost_and_gained(0.1, 0), 10.0, (0, 100)),
    "50 % lost": (lost_and_gained(0.5, 0), 50.0, (0, 100)),
    "20 % lost, 10 % gained": (lost_and_gained(0.2, 0.1), 10.0, (-100, 100)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[20, 50, 100, 300])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args()
    print(f"coverage of 95 % intervals, {options.simulations} simulations each: summary / plain percentile / BCa")
    for name, (draw, known, bounds) in CASES.items():
        random = np.random.default_rng(1)
        truth = float(draw(random, (4_000_000, 1)).mean()) if known is None else known
        cells = []
        for n in options.questions:
            values = draw(random, (n, options.simulations))
            ends = bootstrap_intervals(values, resamples=options.resamples, bounds=bounds)
            found = [held(ends.low, ends.high, truth)]
            for method in ("percentile", "BCa"):
                found.append(scipy_coverage(values, truth, method, options.resamples))
            cells.append(f"n={n}: " + " / ".join(f"{100 * share:.1f}" for share in found))
        print(f"{name:24}" + "   ".join(cells), flush=True)


def scipy_coverage(values: np.ndarray, truth: float, method: str, resamples: int) -> float:
    """SciPy's method; where all questions agree it has no BCa interval, and the common value is taken for it."""
    share = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for columns in np.array_split(values, values.shape[1] // 50, axis=1):
            interval = stats.bootstrap(
                (columns,), np.mean, n_resamples=resamples, method=method, axis=0, rng=np.random.default_rng(2)
            ).confidence_interval
            common = columns.mean(axis=0)
            low = np.where(np.isnan(interval.low), common, interval.low)
            high = np.where(np.isnan(interval.high), common, interval.high)
            share.append(held(low, high, truth))
    return float(np.mean(share))


def held(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    """The share of intervals that hold the truth."""
    return float(((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean())


if __name__ == "__main__":
    main()
