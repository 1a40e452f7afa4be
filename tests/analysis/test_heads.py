"""Single heads: each a curve of its own, and none of them in what is said of the pathway."""

import numpy as np
import pandas as pd
import pytest

from tests.run.result_rows import row
from xmflow_jax.analysis.heads import summarize_heads
from xmflow_jax.analysis.recommendation import recommend, recommendation_json
from xmflow_jax.analysis.summary import Resampling, summarize

RESAMPLING = Resampling(resamples=200)
HEADS, LAYERS, QUESTIONS = 3, 4, 12


@pytest.fixture(name="rows", scope="module")
def fixture_rows() -> pd.DataFrame:
    """The pathway costs a quarter of the questions in every layer, head 2 all of them in layer 1, the others none."""
    rows = []
    for task in ("A", "B"):
        for question in range(QUESTIONS):
            for pathway, style in (("Image->Question", "centred"), ("Image->All", "to-end")):
                for layer in range(LAYERS):
                    for head in range(-1, HEADS):
                        right = question % 4 > 0 if head == -1 else (head, layer) != (2, 1)
                        rows.append(
                            row(
                                f"{question}", layer, task, pathway=pathway, style=style, head=head,
                                knockout_score=float(right), relative_change=-10.0 - head,
                            )
                        )  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


def test_every_head_is_summarized_as_if_it_were_a_run_of_its_own(rows: pd.DataFrame) -> None:
    heads = summarize_heads(rows, resampling=RESAMPLING)
    assert list(heads.columns[:7]) == ["task", "kind", "mode", "pathway", "style", "head", "layer"]
    assert len(heads) == 2 * 2 * HEADS * LAYERS
    for head in range(HEADS):
        alone = summarize(rows[rows["head"] == head].assign(head=-1), resampling=RESAMPLING)
        own = heads[heads["head"] == head].reset_index(drop=True)
        pd.testing.assert_frame_equal(own[list(alone.columns)], alone)
    found = heads.loc[heads["critical"], ["task", "head", "layer"]]
    assert found.drop_duplicates().to_numpy().tolist() == [["A", 2, 1], ["B", 2, 1]]
    np.testing.assert_array_equal(heads["relative_change"], -10.0 - heads["head"])


def test_nothing_else_hears_of_single_heads(rows: pd.DataFrame) -> None:
    without = rows[rows["head"] == -1]
    summary = summarize(rows, resampling=RESAMPLING)
    pd.testing.assert_frame_equal(summary, summarize(without, resampling=RESAMPLING))
    assert set(summary["delta_accuracy"]) == {25.0}
    told = [recommendation_json(recommend(some, summary, None, resampling=RESAMPLING)) for some in (rows, without)]
    assert told[0] == told[1]


def test_without_single_heads_there_is_no_table_of_them(rows: pd.DataFrame) -> None:
    without = rows[rows["head"] == -1]
    assert len(summarize_heads(without)) == 0
    assert len(summarize_heads(without.drop(columns="head"))) == 0


def test_a_head_twice_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="repeat a question"):
        summarize_heads(pd.concat([rows, rows[:1]]), resampling=RESAMPLING)
    with pytest.raises(ValueError, match="repeat a question"):
        summarize(pd.concat([rows, rows[:1]]), resampling=RESAMPLING)
