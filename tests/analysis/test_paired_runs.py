"""Differences of two runs on the same questions, by hand and against what unpaired intervals could tell."""

import numpy as np
import pandas as pd

from tests.analysis.known_flow import rows_of
from xmflow_jax.analysis.bootstrap import bootstrap_intervals
from xmflow_jax.analysis.paired_runs import DIFFERENCE_COLUMNS, paired_differences
from xmflow_jax.analysis.permutation import sign_flip_p_values
from xmflow_jax.analysis.summary import Resampling, summarize
from xmflow_jax.measures.accuracy import ACCURACY

FEW = Resampling(resamples=500)


def run(loss: float) -> pd.DataFrame:
    rows = rows_of({"Question->Last": {1: loss}}, questions=40, layers=2)
    return rows.assign(
        image_id=rows["question_id"].str[:-1] + rows["question_id"].str[-1].map(lambda one: str(int(one) // 2))
    )


def test_differences_are_those_of_each_question_with_its_image() -> None:
    first, second = run(0.5), run(0.75).sample(frac=1, random_state=0)
    table = paired_differences(first, second[second["question_id"] != "q0003"], FEW, [ACCURACY])
    assert tuple(table.columns) == DIFFERENCE_COLUMNS
    assert table[["layer", "n", "images"]].to_numpy().tolist() == [[0, 39, 20], [1, 39, 20]]
    own = [rows[rows["layer"] == 1].sort_values("question_id") for rows in (first, second)]
    lost = [100 * (1 - rows["knockout_score"].to_numpy()) for rows in own]
    kept = own[0]["question_id"].to_numpy() != "q0003"
    difference, images = (lost[1] - lost[0])[kept][:, None], pd.factorize(own[0]["image_id"])[0][kept]
    ends = bootstrap_intervals(difference, resamples=500, bounds=(-200, 200), images=images)
    one = table.iloc[1]
    np.testing.assert_allclose(
        one[["first", "second", "difference", "low", "high"]].to_numpy(float),
        [lost[0][kept].mean(), lost[1][kept].mean(), difference.mean(), ends.low[0], ends.high[0]],
    )
    assert one["p_value"] == sign_flip_p_values(difference, images=images)[0]
    assert one["p_holm"] == min(2 * one["p_value"], 1.0)


def test_a_run_beside_itself_differs_nowhere() -> None:
    table = paired_differences(run(0.5), run(0.5), FEW)
    assert (table["difference"] == 0).all()
    assert (table["p_value"] == 1).all()


def test_pairing_finds_what_intervals_side_by_side_do_not() -> None:
    """The same half of the questions is lost in both runs, and six more in the second, on six images."""
    first = run(0.5)
    kept = first[(first["layer"] == 1) & (first["knockout_score"] == 1)].drop_duplicates("image_id")["question_id"][:8]
    second = first.copy()
    second.loc[second["question_id"].isin(kept) & (second["layer"] == 1), "knockout_score"] = 0.0
    one = paired_differences(first, second, FEW, [ACCURACY]).iloc[1]
    assert one["difference"] == 20
    assert one["low"] > 0
    assert one["p_holm"] <= 0.05
    alone = [summarize(rows, resampling=FEW).set_index("layer").loc[1] for rows in (first, second)]
    assert alone[0]["delta_accuracy_high"] > alone[1]["delta_accuracy_low"]


def test_questions_of_one_id_about_other_images_are_not_the_same() -> None:
    other = run(0.5)
    assert paired_differences(run(0.5), other.assign(image_id=other["image_id"] + " of another set"), FEW).empty
    assert len(paired_differences(run(0.5), other.drop(columns="image_id"), FEW))
