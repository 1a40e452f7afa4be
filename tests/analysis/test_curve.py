"""Curves of every kind: their names, and what summary and findings make of rows that are no blocked edges."""

import pandas as pd

from tests.analysis.known_flow import ANSWER, PRUNING, TWO_STEPS, rows_of
from xmflow_jax.analysis.curve import Curve, curves_of, edges_of, of_curve
from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.recommendation import recommend
from xmflow_jax.analysis.summary import Resampling, summarize
from xmflow_jax.run.row_words import EDGES, KEEP_ONLY, OUTPUT

RESAMPLING = Resampling(resamples=500)


def every_kind() -> pd.DataFrame:
    """The known flow, with a kept pathway that is not enough, and an output that is needed in layer 2."""
    kept = rows_of({ANSWER: dict.fromkeys(range(12), 0.9)}).assign(kind=KEEP_ONLY)
    zeroed = rows_of({ANSWER: {2: 0.8}}).assign(kind=OUTPUT, mode="zero", pathway="self:Image")
    return pd.concat([rows_of(TWO_STEPS), kept, zeroed], ignore_index=True)


def test_names() -> None:
    assert Curve(EDGES, "mask", ANSWER, "centred").name == ANSWER
    assert Curve(EDGES, "zero", ANSWER, "to-end").name == f"{ANSWER} (zero, to-end)"
    assert Curve(KEEP_ONLY, "mask", ANSWER, "single").name == f"only {ANSWER} (single)"
    assert Curve(OUTPUT, "zero", "mlp:Central Object", "centred").name == "mlp output of Central Object"


def test_every_curve_keeps_its_own_numbers() -> None:
    summary = summarize(every_kind(), resampling=RESAMPLING)
    assert len(curves_of(summary)) == len(TWO_STEPS) + 2
    alone = summarize(rows_of(TWO_STEPS), resampling=RESAMPLING)
    pd.testing.assert_frame_equal(summary[summary["kind"] == EDGES].reset_index(drop=True), alone)
    kept = of_curve(summary, Curve(KEEP_ONLY, "mask", ANSWER, "centred"))
    assert (kept["delta_accuracy"] == 90.0).all()
    assert not kept["critical"].any()  # not enough is not the same as needed
    zeroed = of_curve(summary, Curve(OUTPUT, "zero", "self:Image", "centred"))
    assert zeroed.loc[zeroed["critical"], "layer"].tolist() == [2]


def test_findings_are_of_what_was_blocked() -> None:
    found = {}
    for name, rows in (("all", every_kind()), ("edges", rows_of(TWO_STEPS))):
        summary = summarize(rows, resampling=RESAMPLING)
        found[name] = findings(recommend(rows, summary, resampling=RESAMPLING))
    assert found["all"].stages == found["edges"].stages
    assert found["all"].pruning == found["edges"].pruning
    assert "self output of Image in layer 2" in found["all"].critical
    assert "only" not in found["all"].critical


def test_stages_and_pruning_read_one_mode() -> None:
    masked = rows_of({PRUNING: {0: 0.5}})
    both = pd.concat([masked, masked.assign(mode="zero", knockout_score=0.0)], ignore_index=True)
    assert set(edges_of(both)["mode"]) == {"mask"}
    assert set(edges_of(both[both["mode"] == "zero"])["mode"]) == {"zero"}
    assert recommend(both, summarize(both)).pruning == recommend(masked, summarize(masked)).pruning
