"""The whole command on models whose flow is known by construction: it must find exactly the layers that were built."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.known_flow.model import Flow, describe, write_flow_model
from tests.known_flow.questions import write_questions
from xmflow_jax.report import rebuild
from xmflow_jax.run.folder import read_rows
from xmflow_jax.sweep import run_sweep

pytestmark = pytest.mark.usefixtures("quickly_compiled")

OBJECTS = "Image Central Object->Question"
REST = "Image Without Central Object->Question"
IMAGE = "Image->Question"
STRAIGHT = "Image->Last"
ANSWER = "Question->Last"
GENERAL, SPECIFIC, AGGREGATION = "general injection", "specific injection", "answer aggregation"

FLOWS = [
    Flow(4, objects=1, rest=0, answer=2),
    *(
        pytest.param(flow, marks=pytest.mark.slow)
        for flow in (
            Flow(6, objects=0, rest=0, answer=5),
            Flow(6, objects=1, rest=1, answer=4),
            Flow(9, objects=5, rest=2, answer=7),
            Flow(12, objects=6, rest=6, answer=7),
        )
    ),
]


# Enough to prove, with 95 % confidence, that less than 2 % of the questions are lost.
QUESTIONS = 200


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found does not depend on what is drawn, and drawing takes half the time."""
    for name in ("draw_task_curves", "draw_overview", "draw_heat_maps", "draw_head_maps"):
        monkeypatch.setattr(rebuild, name, lambda *_: [])


def study(folder: Path, flow: Flow, always_none: bool = False) -> dict[str, Any]:
    """The recommendation of a run with windows of one layer."""
    model = write_flow_model(folder / "model", flow)
    file, images = write_questions(folder / "data", QUESTIONS, always_none)
    run_sweep(
        model=model,
        data=file,
        images=images,
        window=1,
        answer_length=1,
        batch_size=50,
        self_check=False,
        out=folder / "run",
    )
    found: dict[str, Any] = json.loads((folder / "run" / "recommendation.json").read_text())
    return found


def critical(found: dict[str, Any]) -> dict[str, list[int]]:
    return {
        curve["pathway"]: curve["layers"]
        for curve in found["critical"]
        if curve["layers"] and curve["style"] == "centred"
    }


def stages(found: dict[str, Any]) -> dict[str, list[list[int]]]:
    (task,) = found["stages"]
    return {stage["name"]: stage["layers"] for stage in task["stages"] if stage["supported"]}


@pytest.mark.parametrize("flow", FLOWS, ids=describe)
def test_the_layers_that_were_built_are_found(tmp_path: Path, flow: Flow) -> None:
    found = study(tmp_path, flow)
    assert flow.objects is not None
    assert flow.rest is not None
    assert critical(found) == {
        REST: [flow.rest],
        OBJECTS: [flow.objects],
        IMAGE: sorted({flow.rest, flow.objects}),
        ANSWER: [flow.answer],
    }
    assert stages(found) == {
        GENERAL: [[flow.rest, flow.rest]],
        SPECIFIC: [[flow.objects, flow.objects]],
        AGGREGATION: [[flow.answer, flow.answer]],
    }
    (task,) = found["stages"]
    order = {(one["first"], one["second"]): one["support"] for one in task["orders"]}
    assert order[SPECIFIC, AGGREGATION] == order[GENERAL, AGGREGATION] == 1.0
    assert order[GENERAL, SPECIFIC] == (1.0 if flow.rest < flow.objects else 0.0)
    assert found["pruning"]["layer"] == max(flow.rest, flow.objects) + 1


@pytest.mark.slow
def test_other_patches_are_no_matched_control_of_the_objects(tmp_path: Path) -> None:
    """The answer needs the object's patches: blocking as many others costs nothing, in any layer. And of two heads in
    one layer the first reads these patches alone, the second the others."""
    flow = Flow(4, objects=1, rest=1, answer=2)
    file, images = write_questions(tmp_path / "data", 30)
    found = run_sweep(
        model=write_flow_model(tmp_path / "model", flow),
        data=file,
        images=images,
        pathways=f"{OBJECTS}, {REST}",
        window=1,
        controls=2,
        each_head=True,
        answer_length=1,
        batch_size=30,
        out=tmp_path / "run",
    )
    curves = found.summary.set_index(["pathway", "layer"])
    assert (curves["controls"] == 2).all()
    own, control = (curves.loc[OBJECTS, name] for name in ("delta_accuracy", "control_delta_accuracy"))
    assert own[1] > 50
    assert own.drop(1).tolist() == [0.0] * 3
    assert control.tolist() == [0.0] * 4
    assert (curves.loc[OBJECTS, "control_overlap"] == 0).all()
    assert curves.loc[(OBJECTS, 1), "delta_accuracy_over_control_low"] > 5
    # 12 of 16 patches leave but 4 to draw from, so 8 of the draw's are the pathway's own.
    assert curves.loc[REST, "control_overlap"].to_numpy() == pytest.approx(8 / 12)
    heads = pd.read_csv(tmp_path / "run" / "heads.csv")
    assert len(heads) == 2 * 2 * 4
    lost = heads.loc[heads["critical"], ["pathway", "head", "layer"]]
    assert lost.to_numpy().tolist() == [[OBJECTS, 0, 1], [REST, 1, 1]]
    assert heads.loc[~heads["critical"], "delta_accuracy"].tolist() == [0.0] * 14
    rows = read_rows(tmp_path / "run")
    assert sorted(rows["control"].unique()) == [0, 1, 2]
    assert rows.loc[rows["control"] == 0, "control_overlap"].isna().all()


@pytest.mark.slow
def test_straight_to_the_last_position(tmp_path: Path) -> None:
    found = study(tmp_path, Flow(6, straight=3))
    assert critical(found) == {STRAIGHT: [3]}
    assert stages(found) == {}
    assert found["pruning"]["layer"] == 4


@pytest.mark.slow
def test_no_flow_at_all(tmp_path: Path) -> None:
    found = study(tmp_path, Flow(6), always_none=True)
    assert critical(found) == {}
    assert stages(found) == {}
    assert found["pruning"]["layer"] == 0
