"""The smallest loss that a run could have seen, against drawn runs, exact binomial powers, and the test itself."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.interval_coverage import lost_and_gained
from experiments.analysis.shared_images import DESIGNS, correlated, images_of, seen_and_told
from tests.analysis.known_flow import TWO_STEPS, rows_of
from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.permutation import DRAWS, EXACT_IMAGES, sign_flip_p_values
from xmflow_jax.analysis.power import find_power, least_images, power_of, questions_needed, resized, smallest_loss
from xmflow_jax.analysis.recommendation import recommend
from xmflow_jax.analysis.simulated_runs import Alike, Sums, alike_images, image_losses, seen
from xmflow_jax.analysis.summary import Resampling, summarize

MIXED = "1 to 8 questions an image"


@pytest.mark.parametrize(
    ("design", "gained", "correlation"),
    [
        ("1 question an image", 0.05, 0.0),
        (MIXED, 0.0, 0.3),
        ("4 questions an image", 0.05, 0.9),
        ("8 questions an image", 0.01, 0.6),
        # Where a formula by the normal distribution tells 1.9 times what is seen.
        ("1, of every tenth 8", 0.01, 0.9),
    ],
)
def test_the_loss_that_is_told_is_seen_in_four_of_five_runs(design: str, gained: float, correlation: float) -> None:
    """The whole table: `python -m experiments.analysis.shared_images`."""
    images = images_of(DESIGNS[design], 60)
    found = seen_and_told(images, gained, correlation, simulations=1000)
    assert found is not None
    seen, told = found
    assert told == pytest.approx(seen, rel=0.1)
    # So it is from runs in which half as much, or twice as much, is lost.
    for times in (0.5, 2.0):
        draw = lost_and_gained(times * seen + gained, gained)
        losses = correlated(draw, np.random.default_rng(3), images, 200, correlation) / 100
        # Three standard errors at worst: 3.1 % from the shares of 1000 and 2000 runs (0.013 and 0.009, over a power
        # that grows by half the loss's relative growth), and 3.5 % from the 200 drawn knockouts.
        assert smallest_loss(alike_images(losses, images), 0.95) == pytest.approx(seen, rel=0.15)


def alone(questions: int, gained: float = 0.0) -> tuple[Alike, ...]:
    """Right and wrong answers, each about its own image; a tenth of them are lost."""
    one = np.ones(1)
    return (Alike(np.ones(questions, int), Sums(one, 0.1), Sums(one if gained else one[:0], gained)),)


@pytest.mark.parametrize("questions", [20, 100, 1000])
def test_without_gains_it_is_the_exact_power_of_mcnemars_test(questions: int) -> None:
    loss = smallest_loss(alone(questions), 0.95)
    assert loss is not None
    # Six lost and none gained is the least with a two-sided p of at most 0.05.
    assert stats.binomtest(6, 6).pvalue <= 0.05 < stats.binomtest(5, 5).pvalue
    # Four standard errors of a share of so many runs; of 1000 questions' 1048 runs 0.04 is three and a quarter.
    runs = image_losses(alone(questions), 1.0).shape[1]
    assert stats.binom.sf(5, questions, loss) == pytest.approx(0.8, abs=min(4 * (0.8 * 0.2 / runs) ** 0.5, 0.04))
    assert (least_images(0.95), least_images(0.9), least_images(0.5)) == (6, 5, 2)


def undecided(p_values: np.ndarray, flips: Sequence[int]) -> float:
    """The share of p-values [runs] so near 0.05 that other flips may decide otherwise: three standard errors.

    Args:
        flips: how many each test draws; a test that tries all of them is left out.
    """
    error = (0.05 * 0.95 * sum(1 / number for number in flips)) ** 0.5
    return float((np.abs(p_values - 0.05) <= 3 * error).mean())


@pytest.mark.parametrize("lost", [7, 12, 20])
def test_runs_are_rejected_as_the_sign_flip_test_does(lost: int) -> None:
    """With at most eleven changed images, to the last run; with more, but for the flips that are drawn."""
    random = np.random.default_rng(2)
    sums = random.choice([-4.0, -1, 0, 1, 1, 2], (lost, 400))
    p_values, up = sign_flip_p_values(sums), sums.sum(axis=0) > 0
    # Both tests draw flips, but of few images all: one of up to 13 images, the other, which has 2048, of up to 11.
    drawn = [DRAWS] * (lost > EXACT_IMAGES) + [2048] * (lost > 11)
    bound = undecided(p_values[up], drawn) * up.mean()
    assert seen(sums, 0.95) == pytest.approx(((p_values <= 0.05 + 1e-12) & up).mean(), abs=bound + 1e-12)
    many = np.vstack([sums, random.choice([-1.0, 1, 1], (250, 400))])
    p_values, up = sign_flip_p_values(many, 1999), many.sum(axis=0) > 0
    bound = undecided(p_values[up], [1999]) * up.mean()
    assert seen(many, 0.95) == pytest.approx(((p_values <= 0.05 + 1e-12) & up).mean(), abs=bound + 1e-12)


@pytest.mark.parametrize("gained", [0.0, 0.03])
def test_the_questions_needed_for_a_loss_see_it(gained: float) -> None:
    questions = questions_needed(alone(50, gained), 0.02, 0.95)
    assert questions is not None
    assert smallest_loss(alone(round(questions), gained), 0.95) == pytest.approx(0.02, rel=0.05)


def test_more_questions_than_are_drawn_follow_the_root_of_their_number() -> None:
    """Of 5 % gained and 7 % lost, by Connor's formula; drawn runs of fewer questions agree with it."""
    root = 1.959964 * 0.12**0.5 + 0.841621 * (0.12 - 0.02**2) ** 0.5
    assert questions_needed(alone(50, 0.05), 0.02, 0.95) == pytest.approx((root / 0.02) ** 2, rel=0.05)
    root = 1.959964 * 0.14**0.5 + 0.841621 * (0.14 - 0.04**2) ** 0.5
    assert questions_needed(alone(50, 0.05), 0.04, 0.95) == pytest.approx((root / 0.04) ** 2, rel=0.1)


def test_five_images_can_show_nothing() -> None:
    assert smallest_loss(alone(5, 0.1), 0.95) is None
    assert smallest_loss(alone(6, 0.1), 0.95) is None


def test_what_is_lost_and_gained_is_read_from_the_run() -> None:
    losses = np.array([[1.0, 0], [1, -0.5], [0, np.nan], [0.5, 0]])
    (group,) = alike_images(losses, np.array([0, 0, 1, 2]))
    assert group.sizes.tolist() == [2, 1, 1]
    assert sorted(group.lost.values) == [0.5, 2.0]
    assert group.gained.values.tolist() == [0.5]
    assert (group.lost.rate, group.gained.rate) == (2 / 6, 1 / 6)


def test_images_with_other_numbers_of_questions_lose_as_they_did() -> None:
    """Of sizes 1 and 8, only the large ones lose; drawn runs with the same loss are like the run."""
    images = images_of((1, 8), 100)
    losses = np.zeros((len(images), 40))
    random = np.random.default_rng(1)
    losses[np.bincount(images)[images] == 8] = np.repeat(random.random((50, 40)) < 0.2, 8, axis=0)
    groups = alike_images(losses, images)
    assert [set(group.sizes.tolist()) for group in groups] == [{1}, {8}]
    sums = image_losses(groups, 1.0)
    assert sums.sum() / sums.shape[1] / len(images) == pytest.approx(losses.mean(), rel=0.05)
    assert set(np.unique(sums)) == {0.0, 8.0}
    assert image_losses(groups, 3.0).sum() == pytest.approx((1 - 0.8 * np.exp(-0.4)) / 0.2 * sums.sum(), rel=0.05)
    assert sum(len(group.sizes) for group in resized(groups, 31)) == 31
    assert image_losses(groups, 0.5).sum() == pytest.approx(0.5 * sums.sum(), rel=0.1)


def test_where_hardly_an_answer_changes_no_number_is_told() -> None:
    rows = rows_of({"Question->Last": {}}, questions=60, layers=2)
    (alone,) = find_power(rows.drop_duplicates(["question_id", "layer"]))
    (shared,) = find_power(rows.assign(image_id=rows["question_id"].str[:-1]))
    assert (alone.design_effect, shared.design_effect) == (1.0, None)
    assert (shared.questions, shared.images, shared.changed) == (60, 6, 0)
    for one in (alone, shared):
        assert (one.known, one.smallest_loss, one.needed) == (False, None, None)
    losses = np.zeros((100, 3))
    for changed, known in ((9, False), (10, True)):
        losses[:changed, 1] = 1
        power = power_of("task", losses, np.arange(100), 0.95)
        assert (power.changed, power.known, power.smallest_loss is not None) == (changed, known, known)


def test_the_line_and_what_else_is_told_of_images() -> None:
    rows = rows_of(TWO_STEPS, questions=60)
    rows = rows.assign(image_id=rows["question_id"].str[:-1])  # ten questions an image
    few = Resampling(resamples=200)
    told = recommend(rows, summarize(rows, resampling=few), resampling=few)
    lines = findings(told).lines()
    assert "n = 60 on 6 images)" in lines[0]
    assert "60 questions on 6 images cannot show a cost below " in lines[2]
    assert lines[3].startswith("Power: of 60 questions on 6 images answers changed on 6 alone; ")
    assert told.power[0].images == 6
    # All six images would have to lose: none does so more surely than with a bound of six questions.
    assert told.pruning.tasks[0].least_provable == pytest.approx(100 * (1 - 0.05 ** (1 / 6)))


def test_several_tasks_are_taken_together_by_image() -> None:
    rows = rows_of(TWO_STEPS, questions=40, layers=9)
    rows = rows.assign(image_id=rows["question_id"])
    both = pd.concat([rows, rows.assign(task="QueryAttr")], ignore_index=True)
    few = Resampling(resamples=100)
    told = recommend(both, summarize(both, resampling=few), resampling=few)
    power = told.power
    assert [(one.task, one.questions, one.images) for one in power] == [
        ("All tasks", 80, 40), ("ChooseAttr", 40, 40), ("QueryAttr", 40, 40)
    ]  # fmt: skip
    # Both tasks lose the same questions: two copies of each image's answer.
    assert power[0].design_effect == pytest.approx(79 / 39)
    assert power[0].smallest_loss == pytest.approx(power[1].smallest_loss, rel=0.1)  # no copy tells anything new
    line = findings(told).power
    assert line.startswith("Power: 80 questions on 40 images (design effect 2.0) could show a loss of accuracy of ")
