"""Whether p-values are uniform where nothing is there to be found: the sign-flip test's, and Holm's over layers.

    python -m experiments.analysis.null_p_values

Questions are drawn from distributions that are symmetric about zero, so that the null holds. Of uniform p-values the
share below a level is that level; where few questions change, p-values are coarse and the share is below it. Holm's
correction promises that of all curves at most 5 % have any layer below 0.05.
"""

import argparse

import numpy as np
from scipy import stats

from experiments.analysis.interval_coverage import Draw, lost_and_gained
from xmflow_jax.analysis.permutation import holm, sign_flip_p_values

LEVELS = (0.01, 0.05, 0.1, 0.5)

CASES: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "heavy tails (t, 3 degrees)": lambda random, shape: random.standard_t(3, shape),
    "2 % lost, 2 % gained": lost_and_gained(0.02, 0.02),
    "10 % lost, 10 % gained": lost_and_gained(0.1, 0.1),
    "30 % lost, 30 % gained": lost_and_gained(0.3, 0.3),
}


# Elsewhere few p-values are possible.
CONTINUOUS = ("normal", "heavy tails (t, 3 degrees)")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[20, 100, 300])
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--curves", type=int, default=400)
    options = parser.parse_args()
    print(
        f"share of p-values at most {', '.join(map(str, LEVELS))}, in percent, {options.simulations} simulations each;"
    )
    print("in brackets the p-value of the Kolmogorov-Smirnov test that they are uniform, where values are continuous")
    for name, draw in CASES.items():
        for n in options.questions:
            p = sign_flip_p_values(draw(np.random.default_rng(1), (n, options.simulations)))
            shares = "  ".join(f"{100 * (p <= level + 1e-12).mean():5.1f}" for level in LEVELS)
            uniform = f"   ({stats.kstest(p, 'uniform').pvalue:.2f})" if name in CONTINUOUS else ""
            print(f"{name:28}n={n:<5}{shares}{uniform}", flush=True)
    print(f"percent of {options.curves} curves of {options.layers} layers with any Holm-corrected p-value up to 0.05")
    for name, draw in CASES.items():
        found = []
        for n in options.questions:
            random = np.random.default_rng(2)
            values = draw(random, (n, options.layers * options.curves))
            curves = sign_flip_p_values(values).reshape(options.curves, options.layers)
            found.append(f"n={n}: {100 * np.mean([(holm(p) <= 0.05 + 1e-12).any() for p in curves]):.1f}")
        print(f"{name:28}" + "   ".join(found), flush=True)


if __name__ == "__main__":
    main()
