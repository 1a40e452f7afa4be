"""The bootstrap against SciPy's, against closed forms, and by what it promises: coverage."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from xmflow_jax.analysis import bootstrap
from xmflow_jax.analysis.bootstrap import (
    bootstrap_intervals,
    percentile_level,
    resampled_means,
    resampling_counts,
    t_quantile,
)


def relative_changes(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Of a probability that a knockout lowers as a rule and raises at times: skewed, at least -100."""
    base = random.beta(5, 2, shape)
    knockout = np.minimum(base * np.exp(random.normal(-0.3, 0.8, shape)), 1.0)
    return 100 * (knockout - base) / base


def of_losses(lost: float, gained: float = 0.0) -> Callable[[np.random.Generator, tuple[int, int]], np.ndarray]:
    return lambda random, shape: random.choice([1.0, -1.0, 0.0], shape, p=[lost, gained, 1 - lost - gained])


DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda random, shape: random.normal(2.0, 3.0, shape),
    "relative change": relative_changes,
    "half lost": of_losses(0.5),
    "tenth lost": of_losses(0.1),
    "lost and gained": of_losses(0.2, 0.1),
}


def coverage(name: str, n: int, simulations: int, resamples: int, bounds: tuple[float, float] | None = None) -> float:
    """The share of simulated columns whose interval holds the truth; all share their resamples, which is no bias."""
    random = np.random.default_rng(11)
    truth = DRAWS[name](random, (1_000_000, 1)).mean()
    if name != "relative change":
        truth = {"normal": 2.0, "half lost": 0.5, "tenth lost": 0.1, "lost and gained": 0.1}[name]
    ends = bootstrap_intervals(DRAWS[name](random, (n, simulations)), resamples=resamples, bounds=bounds)
    return float(((ends.low <= truth + 1e-9) & (truth - 1e-9 <= ends.high)).mean())


@pytest.mark.parametrize("name", DRAWS)
def test_coverage(name: str) -> None:
    assert 0.93 <= coverage(name, n=100, simulations=2000, resamples=1500) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 500])
@pytest.mark.parametrize("name", DRAWS)
def test_coverage_in_a_long_simulation(name: str, n: int) -> None:
    assert 0.93 <= coverage(name, n, simulations=10_000, resamples=4000) <= 0.97


def test_coverage_of_rare_losses_is_not_lost_where_no_question_lost() -> None:
    """2 % of 40: in 45 % of the runs no question is lost, and a resample shows nothing but 0."""
    lost = (np.random.default_rng(0).random((40, 4000)) < 0.02).astype(float)
    plain = bootstrap_intervals(lost, resamples=500)
    bounded = bootstrap_intervals(lost, resamples=500, bounds=(0.0, 1.0))
    assert (plain.high >= 0.02).mean() < 0.6
    assert (bounded.high >= 0.02).mean() >= 0.95


@pytest.mark.parametrize("n", [12, 150])
def test_ends_are_those_of_scipys_percentile_bootstrap(n: int) -> None:
    values = np.random.default_rng(3).gamma(1.5, 10.0, n)
    ours = bootstrap_intervals(values[:, None], resamples=40_000)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=40_000,
        confidence_level=1 - 2 * percentile_level(n),
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    noise = 0.05 * (theirs.high - theirs.low)
    np.testing.assert_allclose([ours.low[0], ours.high[0]], [theirs.low, theirs.high], atol=noise)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10, 50, 1000])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_level_of_few_questions(n: int, confidence: float) -> None:
    tail = (1 - confidence) / 2
    exact = stats.t.ppf(tail, n - 1)
    np.testing.assert_allclose(t_quantile(tail, n - 1), exact, rtol=1e-9)
    np.testing.assert_allclose(
        percentile_level(n, confidence), stats.norm.cdf(exact * np.sqrt(n / (n - 1))), rtol=1e-6, atol=1e-12
    )


def test_the_t_quantile_at_one_degree_is_cauchys() -> None:
    assert t_quantile(0.025, 1) == pytest.approx(-12.7062047, abs=1e-6)


@pytest.mark.parametrize("n", [2, 40, 1000])
@pytest.mark.parametrize("lost", [False, True])
def test_where_all_questions_agree_the_interval_is_that_of_clopper_and_pearson(n: int, lost: bool) -> None:
    exact = stats.binomtest(n if lost else 0, n).proportion_ci(0.95, "exact")
    ends = bootstrap_intervals(np.full((n, 1), float(lost)), resamples=10, bounds=(0.0, 1.0))
    np.testing.assert_allclose([ends.low[0], ends.high[0]], [exact.low, exact.high])


def test_a_constant_without_bounds_is_its_own_interval() -> None:
    # 0.6 - 0.3 and 0.9 - 0.6 are the same difference, but for their last digit.
    ends = bootstrap_intervals(np.array([[0.6 - 0.3, 5.0], [0.9 - 0.6, 5.0]]), resamples=50)
    np.testing.assert_allclose(ends.low, [0.3, 5.0])
    np.testing.assert_array_equal(ends.low, ends.high)


def test_one_question_has_no_interval() -> None:
    for bounds in (None, (0.0, 1.0)):
        ends = bootstrap_intervals(np.array([[1.0, np.nan]]), resamples=10, bounds=bounds)
        assert np.isnan([*ends.low, *ends.high]).all()


def test_no_columns_have_no_intervals() -> None:
    assert bootstrap_intervals(np.empty((3, 0))).low.shape == (0,)


def test_missing_values_are_as_if_the_question_were_not_there() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(60, 4))
    values[random.random(60) < 0.3, 1] = np.nan
    values[0, 2] = np.nan
    values[:, 3] = np.nan
    together = bootstrap_intervals(values, resamples=300, seed=8)
    for column in (0, 1, 2):
        alone = values[~np.isnan(values[:, column]), column]
        ends = bootstrap_intervals(alone[:, None], resamples=300, seed=8)
        np.testing.assert_allclose(
            [together.low[column], together.high[column]], [ends.low[0], ends.high[0]], rtol=1e-12
        )
    assert np.isnan(together.low[3])


def test_resampled_means_leave_missing_values_out() -> None:
    values = np.array([[1.0, 10.0], [2.0, np.nan], [4.0, 20.0]])
    counts = np.concatenate([chunk for _, chunk in resampling_counts(3, 500, seed=1)])
    with np.errstate(invalid="ignore"):
        second = (10 * counts[:, 0] + 20 * counts[:, 2]) / (counts[:, 0] + counts[:, 2])
    assert np.isnan(second).any()  # some resample drew the middle question three times
    expected = np.stack([counts @ [1.0, 2.0, 4.0] / 3, second], axis=1)
    np.testing.assert_allclose(resampled_means(values, 500, seed=1), expected)


def test_columns_are_resampled_together() -> None:
    values = np.random.default_rng(2).normal(size=(50, 1))
    means = resampled_means(np.hstack([values, values + 3, -2 * values]), 200)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 3)
    np.testing.assert_allclose(means[:, 2], -2 * means[:, 0])


def test_a_resample_draws_as_many_questions_each_as_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_CHUNK", 7 * 1000)
    chunks = list(resampling_counts(7, 20_500, seed=0))
    assert [some.stop - some.start for some, _ in chunks] == [1000] * 20 + [500]
    counts = np.concatenate([chunk for _, chunk in chunks])
    assert (counts.sum(axis=1) == 7).all()
    # Multinomial: mean 1, variance 1 - 1/7, covariance -1/7.
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(np.cov(counts.T), np.eye(7) - 1 / 7, atol=0.04)


def test_the_seed_decides_every_byte() -> None:
    values = np.random.default_rng(6).normal(size=(80, 5))
    one, again, other = (bootstrap_intervals(values, resamples=400, seed=seed) for seed in (1, 1, 2))
    assert one.low.tobytes() == again.low.tobytes()
    assert one.high.tobytes() == again.high.tobytes()
    assert (one.low != other.low).all()
