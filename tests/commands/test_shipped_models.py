"""The models in `checkpoints/`: what their cards say is what they do."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.shapes.evaluate import evaluate
from experiments.shapes.recipe import RECIPES
from tests.data.tiny_processing import load_processing
from xmflow_jax import run_sweep
from xmflow_jax.data.sources.study_csv import STUDY_TASKS
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS
from xmflow_jax.study.options import SHAPES_CROSSATTN
from xmflow_jax.study.shipped import shipped_checkpoint

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHIPPED = [pytest.param(name, marks=[pytest.mark.slow] if name == SHAPES_CROSSATTN else []) for name in RECIPES]
COLUMNS = ["accuracy", "low", "high", "blank", "text_guess", "blocked"]


@pytest.fixture(name="directory", params=RECIPES)
def fixture_directory(request: pytest.FixtureRequest) -> Path:
    return shipped_checkpoint(request.param)


def card(directory: Path) -> pd.DataFrame:
    """The table of the model card: one row per task."""
    rows = {}
    for line in (directory / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in STUDY_TASKS:
            low, high = cells[2].split(" to ")
            rows[cells[0]] = [float(cell) for cell in (cells[1], low, high, *cells[3:])]
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)


def test_the_recipe_is_what_ships(directory: Path) -> None:
    model, recipe = load_model(directory, "float32"), RECIPES[directory.name]
    assert model.config == recipe.config
    assert model.config.text.layers == 12
    assert model.config.vision.patches == 36
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    assert size < 10_000_000
    # The image has a place in one model's prompt and in the other's it has none.
    in_prompt = load_processing(directory).image_token_id is not None
    assert in_prompt == (directory.name == "shapes-llava")
    text = (directory / "README.md").read_text(encoding="utf-8")
    assert f"python -m experiments.shapes.train {directory.name}" in text
    assert re.search(r"on 20\d\d-\d\d-\d\d with jax", text)


def test_the_card_says_that_the_image_is_read(directory: Path) -> None:
    table = card(directory)
    assert sorted(table.index) == sorted(STUDY_TASKS)
    assert (table["accuracy"] >= 98).all()
    assert (table["blank"] <= table["text_guess"] + 3).all()
    assert (table["blocked"] <= table["text_guess"] + 5).all()


@pytest.mark.slow
def test_the_card_is_what_evaluation_prints(directory: Path) -> None:
    told = card(directory)
    found = evaluate(directory, per_task=2000).loc[told.index, COLUMNS]
    # Exactly on the machine that wrote the card; elsewhere a question in a thousand may tip.
    assert (found - told).abs().to_numpy().max() <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_small_evaluation_agrees_with_the_card(name: str) -> None:
    table = evaluate(shipped_checkpoint(name), per_task=40)
    assert (table["n"] == 40).all()
    assert table["accuracy"].mean() >= 98
    assert (table["accuracy"] >= 90).all()
    # Without the image: no better than guessing, four standard deviations of 40 coin flips allowed.
    assert (table[["blank", "blocked"]].max(axis=1) <= table["text_guess"] + 32).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_default_study_in_small(name: str, tmp_path: Path) -> None:
    # Each task has its own roles, and so its own programs to compile: two will do.
    result = run_sweep(model=name, samples=2, out=tmp_path / "run", batch_size=1, self_check=False)
    assert set(result.rows["task"]) < set(STUDY_TASKS)
    assert result.rows["task"].nunique() == 2
    pathways = {*map(str, STUDY_PATHWAYS), "Image->All"}
    assert set(result.rows["pathway"]) == pathways
    assert (result.rows["base_score"] == 1).all()
    everywhere = (
        result.rows.query("pathway == 'Image->All' and style == 'to-end'").groupby("layer")["knockout_prob"].mean()
    )
    # Blocking from the first layer on takes the answer away, from the last one on hardly anything.
    assert everywhere.iloc[0] < 0.7 < 0.95 < everywhere.iloc[-1]
    check_margins(result.rows)


def check_margins(rows: pd.DataFrame) -> None:
    """The true option was answered, so its probability is known; the false one's is at most the rest."""
    told = rows[rows["base_margin"].notna()]
    assert set(told["task"]) == {task for task in rows["task"] if task.startswith("Choose")}
    assert len(told)
    for run in ("base", "knockout"):
        prob = told[f"{run}_prob"].clip(1e-9, 1 - 1e-6)
        assert (told[f"{run}_margin"] >= np.log(prob / (1 - prob)) - 1e-2).all()
