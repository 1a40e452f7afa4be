"""Questions that share images: against copies of questions, whose information is known, loops, and by coverage."""

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.shared_images import CASES, DESIGNS, correlated, images_of
from xmflow_jax.analysis.bootstrap import bootstrap_intervals, resampled_means, resampling_counts
from xmflow_jax.analysis.bounded_mean import upper_bounds
from xmflow_jax.analysis.clusters import (
    design_effects,
    effective_images,
    image_codes,
    image_correlations,
    image_sums,
    small_sample,
)
from xmflow_jax.analysis.permutation import sign_flip_p_values


def test_questions_without_an_image_name_have_images_of_their_own() -> None:
    codes = image_codes(["cat", "", "dog", "cat", None, float("nan"), ""])  # type: ignore[list-item]
    assert codes.tolist() == [0, 1, 2, 0, 3, 4, 5]


def test_sums_and_numbers_of_each_image() -> None:
    values = np.array([[1.0, 10], [2, np.nan], [4, 30], [8, np.nan]])
    sums, sizes = image_sums(values, np.array([7, 3, 7, 3]))
    assert sums.tolist() == [[5, 40], [10, 0]]
    assert sizes.tolist() == [[2, 2], [2, 0]]


def test_effective_images() -> None:
    assert effective_images(np.array([3, 3, 3, 3])) == 4
    assert effective_images(np.array([8, 1, 1])) == 100 / 66


@pytest.mark.parametrize("copies", [1, 2, 8])
@pytest.mark.parametrize("questions", [6, 30])
def test_copies_of_a_question_on_its_image_say_nothing_new(questions: int, copies: int) -> None:
    """Eight times the same answer about an image is one answer: every statistic is that of the single questions."""
    random = np.random.default_rng(4)
    values = np.round(random.normal(0.3, 0.4, (questions, 5)).clip(-1, 1), 3)
    values[:, 4] = 0.0  # all agree
    # Questions of one image need not stand together.
    copied, images = np.tile(values, (copies, 1)), np.tile(np.arange(questions), copies)
    for bounds in (None, (-1.0, 1.0)):
        alone = bootstrap_intervals(values, resamples=300, bounds=bounds)
        shared = bootstrap_intervals(copied, resamples=300, bounds=bounds, images=images)
        np.testing.assert_allclose([shared.low, shared.high], [alone.low, alone.high], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(sign_flip_p_values(copied, 999, images=images), sign_flip_p_values(values, 999))
    np.testing.assert_allclose(
        upper_bounds(copied, 1.0, resamples=300, images=images), upper_bounds(values, 1.0, resamples=300)
    )
    expected = (copies * questions - 1) / (questions - 1)  # but for the small-sample factor, the number of copies
    np.testing.assert_allclose(design_effects(copied, images)[:4], expected)


def test_one_question_an_image_is_as_if_images_were_not_known_bit_for_bit() -> None:
    values = np.random.default_rng(5).normal(size=(40, 6))
    values[::5, 2] = np.nan
    values[:, 3] = 0.25
    images = np.random.default_rng(6).permutation(40)
    one, other = (bootstrap_intervals(values, resamples=200, bounds=(-9, 9), images=own) for own in (images, None))
    assert one.low.tobytes() == other.low.tobytes()
    assert one.high.tobytes() == other.high.tobytes()
    for statistic in (sign_flip_p_values, lambda values, images=None: upper_bounds(values, 9.0, images=images)):
        assert statistic(values, images=images).tobytes() == statistic(values).tobytes()
    assert (design_effects(values, images) == 1).all()


def test_a_resample_takes_all_questions_of_the_images_that_it_draws() -> None:
    random = np.random.default_rng(7)
    images = images_of(DESIGNS["1 to 8 questions an image"], 9)
    values = random.normal(size=(len(images), 2))
    values[random.random(len(images)) < 0.3, 1] = np.nan
    counts = np.concatenate([chunk for _, chunk in resampling_counts(9, 50, seed=2)]).astype(int)
    expected = [np.nanmean(np.repeat(values, count[images], axis=0), axis=0) for count in counts]
    np.testing.assert_allclose(resampled_means(values, 50, seed=2, images=images), expected)


def test_flips_are_those_of_whole_images() -> None:
    images = images_of((1, 2, 3), 8)
    values = np.random.default_rng(8).normal(0.3, 1, (len(images), 1))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    flipped = np.abs([(values[:, 0] * own[images]).sum() for own in signs.T])
    expected = (flipped >= abs(values.sum()) - 1e-9).mean()
    np.testing.assert_allclose(sign_flip_p_values(values, images=images), [expected])


def test_one_image_tells_nothing_about_others() -> None:
    values, images = np.array([[1.0], [2.0], [4.0]]), np.zeros(3, int)
    ends = bootstrap_intervals(values, resamples=10, bounds=(0, 5), images=images)
    assert np.isnan([*ends.low, *ends.high, *design_effects(values, images)]).all()
    assert sign_flip_p_values(values, images=images) == [1.0]
    # As of one question without a loss.
    assert upper_bounds(np.zeros((3, 1)), 1.0, resamples=10, images=images) == pytest.approx(0.95)


def test_an_image_with_nearly_all_questions_makes_intervals_wide() -> None:
    """1.02 effective images: the interval ends where resamples do."""
    images = np.array([0] * 99 + [1])
    values = np.random.default_rng(9).normal(size=(100, 1))
    ends = bootstrap_intervals(values, resamples=100, images=images)
    means = [values[images == own].mean() for own in (0, 1)]
    np.testing.assert_allclose([ends.low[0], ends.high[0]], sorted(means))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 8, 8), (3, 3, 3), (1, 2, 5, 9)])
@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_small_samples_are_corrected_by_the_moments_of_the_variance(sizes: tuple[int, ...], correlation: float) -> None:
    """Against the matrix of the quadratic form, and against draws of it."""
    m = np.array(sizes, float)
    degrees, inflation = small_sample(m[:, None], np.array([correlation]))
    variances = m * (1 + (m - 1) * correlation)
    residual = np.eye(len(m)) - np.outer(m / m.sum(), np.ones(len(m)))
    form = residual @ np.diag(variances) @ residual.T
    np.testing.assert_allclose(degrees, np.trace(form) ** 2 / np.trace(form @ form))
    np.testing.assert_allclose(inflation, variances.sum() / np.trace(form))
    sums = np.random.default_rng(1).normal(size=(200_000, len(m))) * np.sqrt(variances)
    plug_in = ((sums @ residual.T) ** 2).sum(axis=1)
    # Four standard errors: of a mean, and of the degrees by the delta method (what each draw moves them by).
    off = plug_in / plug_in.mean() - 1
    moved = 2 * off - off**2 / off.var()
    mean_bound, degrees_bound = (4 * one.std() / len(plug_in) ** 0.5 for one in (off, moved))
    np.testing.assert_allclose(plug_in.mean() * inflation, variances.sum(), rtol=mean_bound)
    np.testing.assert_allclose(2 * plug_in.mean() ** 2 / plug_in.var(), degrees, rtol=degrees_bound)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_the_correlation_within_images_is_found(correlation: float) -> None:
    images = images_of(DESIGNS["1 to 8 questions an image"], 400)
    values = correlated(CASES["normal"][0], np.random.default_rng(1), images, 200, correlation)
    values[::7, 1] = np.nan
    found = image_correlations(values, images)
    # Of no correlation the positive half of the noise is left, whose variance is 2 / (ordered pairs of an image).
    sizes = np.bincount(images)
    noise = (2 / (sizes * (sizes - 1)).sum()) ** 0.5
    expected = correlation * stats.norm.cdf(correlation / noise) + noise * stats.norm.pdf(correlation / noise)
    # Four standard errors of the mean of the draws.
    assert found.mean() == pytest.approx(expected, abs=4 * found.std(ddof=1) / len(found) ** 0.5)
    assert (image_correlations(values[:, 2:], None) == 0).all()
    assert image_correlations(np.ones((10, 1)), np.repeat(np.arange(5), 2)) == 0


@pytest.mark.parametrize("case", ["relative change", "30 % lost, 10 % gained"])
def test_coverage_where_a_tenth_of_the_images_has_eight_questions(case: str) -> None:
    """Alike questions: 6 of 60 images decide, which Kish's number takes for 24."""
    draw, truth = CASES[case]
    images = images_of(DESIGNS["1, of every tenth 8"], 60)
    values = correlated(draw, np.random.default_rng(1), images, 1000, 0.9)
    ends = bootstrap_intervals(values, resamples=1000, images=images)
    assert 0.94 <= ((ends.low <= truth) & (truth <= ends.high)).mean() <= 0.96


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize("case", ["normal", "30 % lost, 10 % gained"])
def test_coverage_where_images_are_shared(case: str, correlation: float) -> None:
    """The whole table: `python -m experiments.analysis.shared_images`."""
    draw, truth = CASES[case]
    images = images_of(DESIGNS["1 to 8 questions an image"], 60)
    values = correlated(draw, np.random.default_rng(1), images, 1000, correlation)
    held = {}
    for own in ("images", "questions"):
        ends = bootstrap_intervals(values, resamples=1000, images=images if own == "images" else None)
        held[own] = ((ends.low <= truth) & (truth <= ends.high)).mean()
    assert 0.93 <= held["images"] <= 0.97
    if correlation:
        assert held["questions"] < 0.8  # what the interval is for


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_p_values_are_uniform_under_the_null_where_images_are_shared(correlation: float) -> None:
    images = images_of(DESIGNS["1 to 8 questions an image"], 60)
    draw = CASES["normal"][0]
    values = correlated(draw, np.random.default_rng(2), images, 1000, correlation) - CASES["normal"][1]
    assert stats.kstest(sign_flip_p_values(values, 999, images=images), "uniform").pvalue > 0.01
    if correlation:
        assert stats.kstest(sign_flip_p_values(values, 999), "uniform").pvalue < 1e-6


def test_the_bound_holds_where_images_are_shared() -> None:
    """2 % lost, questions of an image together: every tenth run or so shows no loss at all."""
    images = images_of((1, 2, 3, 4), 100)
    lost = correlated(lambda random, shape: random.random(shape) < 0.02, np.random.default_rng(3), images, 1000, 0.9)
    held = {
        own is None: (upper_bounds(lost * 1.0, 1.0, resamples=300, images=own) >= 0.02).mean() for own in (images, None)
    }
    assert held[False] >= 0.95 > held[True]
