"""Sign-flip tests against SciPy and McNemar's exact test, and by what they promise: uniform under the null."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from xmflow_jax.analysis.permutation import EXACT_IMAGES, holm, sign_flip_p_values


@pytest.mark.parametrize("n", [2, 5, 9, EXACT_IMAGES])
def test_few_questions_are_exact(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, 1.0, (n, 3))
    for column, ours in enumerate(sign_flip_p_values(values)):
        theirs = stats.permutation_test(
            (values[:, column],), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
        ).pvalue
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(("lost", "gained"), [(3, 0), (9, 2), (30, 12), (20, 20)])
def test_right_and_wrong_give_mcnemars_exact_test(lost: int, gained: int) -> None:
    values = np.zeros((200, 1))
    values[:lost], values[lost : lost + gained] = 1.0, -1.0
    exact = stats.binomtest(lost, lost + gained).pvalue
    np.testing.assert_allclose(sign_flip_p_values(values, draws=40_000), exact, atol=0.01, rtol=0.1)


def test_no_p_value_is_zero() -> None:
    assert sign_flip_p_values(np.ones((300, 1)), draws=999) == [0.001]


def test_questions_that_did_not_change_do_not_count() -> None:
    changed = np.array([[1.0], [2.0], [-0.5]])
    padded = np.vstack([changed, np.zeros((6, 1))])
    np.testing.assert_allclose(sign_flip_p_values(padded), sign_flip_p_values(changed))


def test_nothing_changed_and_one_question_and_none() -> None:
    assert sign_flip_p_values(np.zeros((40, 1))) == [1.0]
    assert sign_flip_p_values(np.ones((1, 1))) == [1.0]
    assert np.isnan(sign_flip_p_values(np.full((4, 1), np.nan))).all()


def test_missing_values_are_as_if_the_question_were_not_there() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0.2, 1.0, (50, 3))
    values[10:, 1] = np.nan  # few enough to be exact
    values[::2, 2] = np.nan
    expected = [sign_flip_p_values(column[~np.isnan(column)][:, None], draws=500, seed=3)[0] for column in values.T]
    np.testing.assert_allclose(sign_flip_p_values(values, draws=500, seed=3), expected)


def test_ties_by_rounding_count() -> None:
    """Tenths have sums that differ in the last digit where those of whole numbers are equal."""
    whole = np.random.default_rng(0).integers(-6, 7, (10, 200)).astype(float)
    np.testing.assert_array_equal(sign_flip_p_values(whole / 10), sign_flip_p_values(whole))


def test_the_seed_decides_every_byte() -> None:
    values = np.random.default_rng(1).normal(0.1, 1.0, (60, 4))
    one, again, other = (sign_flip_p_values(values, draws=300, seed=seed) for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


def uniform(n: int, simulations: int, draws: int) -> float:
    """Kolmogorov's distance of simulated p-values from the uniform distribution, with no effect in the data."""
    random = np.random.default_rng(21)
    # Symmetric, with heavy tails, and every question of another spread.
    values = random.standard_t(3, (n, simulations)) * random.uniform(0.1, 10, (n, 1))
    return float(stats.kstest(sign_flip_p_values(values, draws=draws), "uniform").statistic)


@pytest.mark.parametrize("n", [12, 40])
def test_p_values_are_uniform_under_the_null(n: int) -> None:
    assert uniform(n, simulations=3000, draws=999) < 0.03  # 5 % of exactly uniform samples reach 0.025


@pytest.mark.slow
@pytest.mark.parametrize("n", [13, 20, 100, 500])
def test_p_values_are_uniform_under_the_null_in_a_long_simulation(n: int) -> None:
    assert uniform(n, simulations=20_000, draws=3999) < 0.012


def test_answers_that_flip_both_ways_alike_are_seldom_significant() -> None:
    """Discrete data cannot be uniform; no level may be exceeded."""
    values = np.random.default_rng(2).choice([1.0, -1.0, 0.0], (60, 3000), p=[0.1, 0.1, 0.8])
    p = sign_flip_p_values(values, draws=999)
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level / 3000)


def test_an_effect_is_found() -> None:
    values = np.random.default_rng(2).normal(0.5, 1.0, (100, 200))
    assert (sign_flip_p_values(values, draws=999) <= 0.01).mean() > 0.95


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """Holm's adjusted p-value is the largest over all sets of hypotheses that hold it of size times smallest p."""
    p = np.array([0.04, 0.001, 0.011, 0.011, 0.6, 0.02])
    places = range(len(p))
    closed = [
        max(
            min(size * p[list(some)].min(), 1.0)
            for size in range(1, len(p) + 1)
            for some in combinations(places, size)
            if place in some
        )
        for place in places
    ]
    np.testing.assert_allclose(holm(p), closed)


def test_holm_leaves_out_what_was_not_tested() -> None:
    np.testing.assert_allclose(holm(np.array([np.nan, 0.02, 0.01, np.nan])), [np.nan, 0.02, 0.02, np.nan])
    assert holm(np.array([])).shape == (0,)
