"""The study's rerun: outcomes on curves made by hand, bad input, and a small stand-in from end to end."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.study import models, rerun, shapes
from experiments.study.figures import FIGURES, PATHWAYS
from experiments.study.models import MODELS, write_stand_in
from experiments.study.page import ModelPart, write_page
from experiments.study.rerun import outcomes_of
from experiments.study.shapes import ALL, FIRST, NOT, OPEN, REPRODUCED, SHAPES, Curve, Outcome, curves_of, judge
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.sweep import SweepResult

LAYERS = 40


def curve(half: float, **dips: float) -> Curve:
    """Zero but for `l7=-30.0`; every interval reaches as far to either side."""
    change = np.zeros(LAYERS)
    for layer, value in dips.items():
        change[int(layer[1:])] = value
    return Curve(change, change - half, change + half)


@pytest.mark.parametrize(
    ("half", "value", "outcome"),
    [(3.0, -30.0, REPRODUCED), (15.0, -30.0, OPEN), (3.0, -10.0, NOT), (3.0, -24.5, REPRODUCED), (3.0, -24.0, OPEN)],
)
def test_a_dip_is_decided_by_its_interval(half: float, value: float, outcome: Outcome) -> None:
    assert shapes.dips((0.35, 0.65), -20.0)([curve(half, l20=value)]) == outcome
    # The same dip elsewhere says nothing of these layers.
    assert shapes.dips((0.35, 0.65), -20.0)([curve(3.0, l2=value)]) == NOT


@pytest.mark.parametrize(
    ("half", "value", "outcome"), [(2.0, -1.0, REPRODUCED), (2.0, 9.0, NOT), (2.0, -9.0, NOT), (8.0, 0.0, OPEN)]
)
def test_a_flat_curve_is_decided_by_every_layer(half: float, value: float, outcome: Outcome) -> None:
    assert shapes.stays(5.0)([curve(half, l30=value)]) == outcome


@pytest.mark.parametrize(
    ("half", "one", "other", "outcome"),
    [
        (1.0, -20.0, -10.0, REPRODUCED),
        (1.0, -10.0, -20.0, NOT),
        (8.0, -20.0, -10.0, OPEN),
        # Apart, but by less than counts.
        (0.1, -13.0, -10.0, NOT),
        # Apart in each layer by itself, not in all layers together.
        (2.0, -19.5, -10.0, OPEN),
    ],
)
def test_the_deeper_of_two_dips_is_decided_by_both(half: float, one: float, other: float, outcome: Outcome) -> None:
    curves = [curve(half, l3=one), curve(half, l1=other)]
    assert shapes.deeper(FIRST)(curves) == outcome
    assert shapes.deeper((0.5, 1.0))(curves) == (OPEN if half > 1.5 else NOT)


@pytest.mark.parametrize(("together", "share"), [(12, (1 - 0.05 / 12) ** 12), (1, 0.95**12)])
def test_intervals_hold_in_all_layers_together(together: int, share: float) -> None:
    """Of twelve independent normal estimates; four standard errors of a share around the one that follows."""
    layers, draws = 12, 20_000
    drawn = np.random.default_rng(0).normal(size=(draws, layers))
    half = 1.959963985  # the normal distribution's quantile of 97.5 %
    own = Curve(drawn, drawn - half, drawn + half).together(together)
    inside = ((own.low <= 0) & (own.high >= 0)).all(axis=1).mean()
    assert abs(inside - share) < 4 * (share * (1 - share) / draws) ** 0.5


def table(curves: dict[str, Curve]) -> pd.DataFrame:
    rows = [
        {
            "task": "QueryAttr",
            "style": style,
            "pathway": pathway,
            "layer": layer,
            "relative_change": own.change[layer] if style == "centred" else 50.0,
            "relative_change_low": own.low[layer],
            "relative_change_high": own.high[layer],
        }
        for style in ("centred", "to-end")
        for pathway, own in curves.items()
        for layer in reversed(range(LAYERS))
    ]
    return pd.DataFrame(rows)


def published() -> dict[str, Curve]:
    """Curves with all that was published of LLaVA-1.5-13B."""
    return {
        "Question->Last": curve(2.0, l20=-30.0),
        "Image->Last": curve(2.0, l20=-5.0),
        "Last->Last": curve(2.0),
        "Image->Question": curve(2.0, l2=-60.0, l10=-21.0),
        "Image Without Central Object->Question": curve(2.0, l2=-40.0, l10=-5.0),
        "Image Central Object->Question": curve(2.0, l2=-10.0, l10=-18.0),
    }


ALONE = [shape for shape in SHAPES if shape.beside is None]


def outcomes(curves: dict[str, Curve], model: str) -> list[Outcome | None]:
    """Of the shapes that one model has by itself."""
    return [judge(shape, model, {model: curves_of(table(curves), "QueryAttr")}) for shape in ALONE]


def test_the_published_curves_have_all_published_shapes_and_their_mirror_images_none() -> None:
    assert outcomes(published(), "LLaVA-1.5-13B") == [REPRODUCED] * len(ALONE)
    turned = {pathway: curve(0.1, l20=-60.0) for pathway in published()}
    turned |= {"Question->Last": curve(0.1, l39=-30.0), "Image->Question": curve(0.1)}
    turned |= {"Image Central Object->Question": curve(0.1, l2=-40.0), "Image->Last": curve(0.1, l20=-60.0)}
    turned |= {"Image Without Central Object->Question": curve(0.1, l10=-40.0)}
    assert outcomes(turned, "LLaVA-1.5-13B") == [NOT] * len(ALONE)
    wide = {pathway: replace(own, low=own.low - 100, high=own.high + 100) for pathway, own in published().items()}
    assert outcomes(wide, "LLaVA-1.5-13B") == [OPEN] * len(ALONE)


def test_a_model_beside_another() -> None:
    """That the 7B model's first dip is weaker is judged once the 13B model has been run."""
    (weaker,) = (shape for shape in SHAPES if shape.beside)
    own = curves_of(table({**published(), "Image->Question": curve(2.0, l2=-30.0)}), "QueryAttr")
    larger = curves_of(table(published()), "QueryAttr")
    both = {"LLaVA-1.5-7B": own, "LLaVA-1.5-13B": larger}
    assert judge(weaker, "LLaVA-1.5-7B", both) == REPRODUCED
    assert judge(weaker, "LLaVA-1.5-7B", {"LLaVA-1.5-7B": larger, "LLaVA-1.5-13B": own}) == NOT
    assert judge(weaker, "LLaVA-1.5-7B", {"LLaVA-1.5-7B": own}) is None
    assert judge(weaker, "LLaVA-1.5-13B", both) is None
    told = outcomes_of("LLaVA-1.5-7B", {name: {"QueryAttr": curves} for name, curves in both.items()})
    assert (weaker, {"QueryAttr": REPRODUCED}) in told


def test_what_cannot_be_asked_is_not_judged() -> None:
    told = outcomes(published(), "LLaVA-1.5-7B")
    assert told == [None if shape.models else REPRODUCED for shape in ALONE]
    without = {pathway: own for pathway, own in published().items() if "Central" not in pathway}
    assert outcomes(without, "LLaVA-1.5-13B").count(None) == 2
    one_question = {pathway: replace(own, low=own.low * np.nan) for pathway, own in published().items()}
    assert set(outcomes(one_question, "LLaVA-1.5-13B")) == {OPEN}


def test_every_layer_belongs_to_the_whole_depth() -> None:
    own = curve(1.0, l0=-1.0, l39=-2.0)
    np.testing.assert_array_equal(own.within(ALL).change, own.change)
    assert len(Curve(*(np.zeros(3),) * 3).within((0.18, 0.2)).change) == 1


@pytest.mark.parametrize(
    ("prepare", "arguments", "line"),
    [
        (lambda folder: None, [], "--models is missing; --stand-in runs without it"),
        (lambda folder: None, ["--models", "none"], "--models none: no such folder"),
        (
            lambda folder: (folder / "other").mkdir(),
            ["--models", ".", "--questions", ".", "--images", "."],
            "--models . holds none of the study's checkpoints; expected llava-1.5-7b-hf or ",
        ),
        (
            lambda folder: (folder / "llava-1.5-7b-hf").mkdir(),
            ["--models", ".", "--questions", ".", "--images", "."],
            "--questions . holds no question file (*.csv)",
        ),
        (
            lambda folder: (folder / "llava-1.5-7b-hf").mkdir(),
            ["--models", ".", "--questions", ".", "--images", ".", "--only", "LLaVA-1.5-7B", "LLaVA-1.5-13B"],
            "--models . has no llava-1.5-13b-hf",
        ),
    ],
)
def test_bad_input_is_one_line(
    prepare: Callable[[Path], Any],
    arguments: Sequence[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    assert rerun.main(arguments) == 2
    (told,) = [one for one in capsys.readouterr().err.splitlines() if one]
    assert told.startswith(f"error: {line}")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_stand_in_has_the_models_layout_and_depth(model: models.StudyModel, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_stand_in(tmp_path, model))
    assert checkpoint.family.model_type == model.family
    assert checkpoint.anatomy.main.layers == model.layers
    assert load_model(tmp_path, "float32").config == checkpoint.config
    layout = checkpoint.processing().image_layout((640, 480))
    assert layout.positions == (576 if model.family == "llava" else 2340)


def test_missing_tasks_are_told_and_the_page_has_what_came_before_a_model_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in MODELS[:2]:
        (tmp_path / model.directory).mkdir()
    for name in ("gqa_QueryAttr.csv", "ChooseCat.csv"):
        (tmp_path / name).touch()
    rows = table(published()).assign(question_id="1")

    def run(model: str, out: Path, **options: Any) -> SweepResult:
        if model.endswith(MODELS[1].directory):
            raise CheckpointError("damaged")
        out.mkdir(parents=True)
        return SweepResult(out, rows, rows, ())

    monkeypatch.setattr(rerun, "run_sweep", run)
    monkeypatch.setattr(rerun, "draw_figures", lambda summary, folder: {})
    given = ["--models", str(tmp_path), "--questions", str(tmp_path), "--images", str(tmp_path)]
    assert rerun.main([*given, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert "has no questions of ChooseAttr, LogicalObj, ChooseRel, CompareAttr\n" in told.out
    assert told.err == "error: damaged\n"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert f"<h2>{MODELS[0].name}<" in page
    assert f"<h2>{MODELS[1].name}<" not in page


def test_a_stand_in_that_was_begun_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun, "MODELS", MODELS[:1])
    monkeypatch.setattr(models, "TILE", 28)

    def broken(folder: Path, model: models.StudyModel) -> Path:
        write_stand_in(folder, model)
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    options = argparse.Namespace(out=tmp_path, only=None)
    with monkeypatch.context() as patch:
        patch.setattr(rerun, "write_stand_in", broken)
        with pytest.raises(KeyboardInterrupt):
            rerun._stand_ins(options)
    ((_, folder),) = rerun._stand_ins(options).models
    assert read_checkpoint(folder).identify().dtype == "float32"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("quickly_compiled")
def test_a_small_stand_in_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One model of little depth; the second run finds all of it done."""
    shallow = replace(MODELS[2], layers=2, window=1)
    monkeypatch.setattr(rerun, "MODELS", (shallow,))
    monkeypatch.setattr(models, "TILE", 28)
    monkeypatch.setattr(models, "CANVASES", ((28, 56), (56, 28), (56, 56)))
    arguments = ["--stand-in", "--out", str(tmp_path), "--samples", "2"]
    assert rerun.main(arguments) == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Stand-in" in page
    assert 4 <= page.count("<img ") <= len(FIGURES) + 1
    assert page.count("<tr>") >= 1 + sum(not shape.models for shape in SHAPES)
    assert (tmp_path / shallow.name / "report.html").exists()
    capsys.readouterr()
    assert rerun.main(arguments) == 0
    assert "2 questions done" in capsys.readouterr().out
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == page


def test_the_figures_pathways_are_told_once() -> None:
    assert len(PATHWAYS) == len(set(PATHWAYS))


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    part = ModelPart("<b>", "a & b", [(SHAPES[0], {"<task>": OPEN})], {}, "run/report.html")
    write_page(tmp_path / "index.html", [part], ["<task>"], stand_in=False)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;task&gt;" in page
    assert "Stand-in" not in page
