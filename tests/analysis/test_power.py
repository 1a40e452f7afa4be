"""The smallest loss that a run could have seen, against runs that are drawn, and against exact binomial powers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.analysis.shared_images import DESIGNS, images_of, seen_and_told
from tests.analysis.known_flow import TWO_STEPS, rows_of
from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.power import Noise, find_power, least_images, observed_noise, smallest_loss
from xmflow_jax.analysis.recommendation import recommend
from xmflow_jax.analysis.summary import Resampling, summarize

MIXED = "1 to 8 questions an image"


@pytest.mark.parametrize(
    ("design", "gained", "correlation"),
    [("1 question an image", 0.05, 0.0), (MIXED, 0.0, 0.3), ("4 questions an image", 0.05, 0.9)],
)
def test_the_loss_that_is_told_is_seen_in_four_of_five_runs(design: str, gained: float, correlation: float) -> None:
    """The whole table: `python -m experiments.analysis.shared_images`."""
    found = seen_and_told(images_of(DESIGNS[design], 60), gained, correlation, simulations=400)
    assert found is not None
    seen, told = found
    assert told == pytest.approx(seen, rel=0.1)


@pytest.mark.parametrize("questions", [20, 100, 1000])
def test_without_gains_it_is_the_exact_power_of_mcnemars_test(questions: int) -> None:
    loss = smallest_loss(Noise(), questions, questions, 0.95)
    assert loss is not None
    # Six lost and none gained is the least with a two-sided p of at most 0.05.
    assert stats.binomtest(6, 6).pvalue <= 0.05 < stats.binomtest(5, 5).pvalue
    assert stats.binom.sf(5, questions, loss) == pytest.approx(0.8)
    assert (least_images(0.95), least_images(0.9), least_images(0.5)) == (6, 5, 2)


@pytest.mark.parametrize("gained", [0.0, 0.03])
def test_the_questions_needed_for_a_loss_see_it(gained: float) -> None:
    noise = Noise(gained=gained, gained_square=gained)
    questions = round(noise.needed(0.02, 0.95))
    assert smallest_loss(noise, questions, questions, 0.95) == pytest.approx(0.02, rel=0.02)


def test_five_images_can_show_nothing() -> None:
    assert smallest_loss(Noise(gained=0.1, gained_square=0.1), 500, 5, 0.95) is None
    assert smallest_loss(Noise(gained=0.1, gained_square=0.1), 6, 6, 0.95) is None


def test_what_is_lost_and_gained_is_read_from_the_run() -> None:
    losses = np.array([[1.0, 0], [1, -0.5], [0, np.nan], [0.5, 0]])
    noise, known = observed_noise(losses, np.array([0, 0, 1, 2]))
    assert known
    assert noise.lost_size == pytest.approx(2.25 / 2.5)
    assert noise.lost_on_image == pytest.approx(2.5 / 2)  # images 0 and 2, in the first column
    assert (noise.gained, noise.gained_square) == pytest.approx((0.5 / 7, 0.25 / 7))
    assert noise.image_size == pytest.approx(6 / 4)


def test_where_nothing_changes_the_questions_of_an_image_count_as_one() -> None:
    rows = rows_of({"Question->Last": {}}, questions=60, layers=2)
    (alone,) = find_power(rows.drop_duplicates(["question_id", "layer"]))
    (shared,) = find_power(rows.assign(image_id=rows["question_id"].str[:-1]))
    assert (alone.design_effect, shared.design_effect) == (1.0, None)
    assert (shared.questions, shared.images) == (60, 6)
    assert shared.needed == pytest.approx(10 * alone.needed, abs=10)


def test_the_line_and_what_else_is_told_of_images() -> None:
    rows = rows_of(TWO_STEPS, questions=60)
    rows = rows.assign(image_id=rows["question_id"].str[:-1])  # ten questions an image
    few = Resampling(resamples=200)
    told = recommend(rows, summarize(rows, resampling=few), resampling=few)
    lines = findings(told).lines()
    assert "n = 60 on 6 images)" in lines[0]
    assert "60 questions on 6 images cannot show a cost below " in lines[2]
    assert lines[3].startswith("Power: 60 questions on 6 images (design effect ")
    assert told.power[0].images == 6
    # All six images would have to lose: none does so more surely than with a bound of six questions.
    assert told.pruning.tasks[0].least_provable == pytest.approx(100 * (1 - 0.05 ** (1 / 6)))


def test_several_tasks_are_taken_together_by_image() -> None:
    rows = rows_of(TWO_STEPS, questions=40, layers=9)
    rows = rows.assign(image_id=rows["question_id"])
    both = pd.concat([rows, rows.assign(task="QueryAttr")], ignore_index=True)
    few = Resampling(resamples=100)
    power = recommend(both, summarize(both, resampling=few), resampling=few).power
    assert [(one.task, one.questions, one.images) for one in power] == [
        ("All tasks", 80, 40), ("ChooseAttr", 40, 40), ("QueryAttr", 40, 40)
    ]  # fmt: skip
    # Both tasks lose the same questions: two copies of each image's answer.
    assert power[0].design_effect == pytest.approx(79 / 39)
