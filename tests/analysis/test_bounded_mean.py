"""The bound of a cost against Clopper and Pearson's, and by how often it holds."""

import numpy as np
import pytest
from scipy import stats

from xmflow_jax.analysis.bounded_mean import upper_bounds


@pytest.mark.parametrize(("lost", "n"), [(1, 10), (2, 300), (9, 40), (39, 40)])
def test_right_and_wrong_give_the_bound_of_clopper_and_pearson(lost: int, n: int) -> None:
    values = np.zeros((n, 1))
    values[:lost] = 1
    exact = stats.binomtest(lost, n, alternative="less").proportion_ci(0.95, "exact").high
    np.testing.assert_allclose(upper_bounds(values, 1.0, resamples=60_000), exact, rtol=0.02)


def test_no_loss_is_exact() -> None:
    """The rule of three: 299 questions without a loss prove less than one in a hundred, 298 do not."""
    for n, below in ((298, False), (299, True)):
        (bound,) = upper_bounds(np.zeros((n, 1)), 1.0, resamples=10)
        np.testing.assert_allclose(bound, stats.binomtest(0, n, alternative="less").proportion_ci(0.95, "exact").high)
        assert bool(bound < 0.01) == below


@pytest.mark.parametrize("n", [10, 50, 200])
@pytest.mark.parametrize("kind", ["rare", "losses and gains", "graded", "skewed"])
def test_it_holds_as_often_as_it_says(kind: str, n: int) -> None:
    random, shape = np.random.default_rng(13), (n, 1500)
    values, truth = {
        "rare": ((random.random(shape) < 0.02).astype(float), 0.02),
        "losses and gains": (random.choice([1.0, -1.0, 0.0], shape, p=[0.1, 0.05, 0.85]), 0.05),
        "graded": (random.choice([0.0, 0.3, 0.6, 1.0], shape, p=[0.9, 0.04, 0.03, 0.03]), 0.06),
        "skewed": (random.beta(0.1, 2.0, shape), 0.1 / 2.1),
    }[kind]
    held = (truth <= upper_bounds(values, 1.0, resamples=1000)).mean()
    assert held >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_missing_values_and_nobody() -> None:
    values = np.array([[0.0, np.nan], [1.0, np.nan], [np.nan, np.nan], [0.0, np.nan]])
    together = upper_bounds(values, 1.0, resamples=200, seed=1)
    np.testing.assert_allclose(together[0], upper_bounds(np.array([[0.0], [1.0], [0.0]]), 1.0, resamples=200, seed=1))
    assert together[1] == 1.0


def test_the_seed_decides_every_byte() -> None:
    values = np.random.default_rng(6).random((30, 3))
    one, again, other = (upper_bounds(values, 1.0, resamples=200, seed=seed) for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes()
    assert (one != other).all()
