"""How far are a run's rows from the same study in float64, and how far apart are two runs?

    python -m experiments.analysis.rounding runs/before runs/after

For some questions of run folders of a shipped model and its data, of any version of this program, the plain engine
computes everything again in float64. What two versions' float32 rows differ by is rounding where each of them is as far
from float64 as from the other; a bug would leave one of them further away. A relative change is a hundred times the
difference of two probabilities over one of them, and a margin the difference of two logits: their errors are larger
than the probabilities' for that reason alone.
"""

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from xmflow_jax.data.question import Question
from xmflow_jax.knockout import PLAIN
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.study.inputs import read_inputs
from xmflow_jax.study.memory_fit import Bounds, Portion
from xmflow_jax.study.one_batch import answer_prompts, follow_answers, question_result, task_knockouts
from xmflow_jax.study.options import SHAPES_LLAVA, SweepOptions
from xmflow_jax.study.setting import KnockoutSettings, PromptedModel, prepare
from xmflow_jax.study.task_studies import plan_studies
from xmflow_jax.weights.load import LoadedModel

KEY: Final = ["task", "question_id", "pathway", "style", "layer", "control", "head"]
NUMBERS: Final = ["base_prob", "knockout_prob", "relative_change", "base_margin", "knockout_margin"]
# First tokens alone: that is where probabilities and margins are read.
SETTINGS: Final = KnockoutSettings(engine=PLAIN, whole_answers=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of the default study, whole or in part")
    parser.add_argument("--model", default=SHAPES_LLAVA)
    parser.add_argument("--questions", type=int, default=3, help="how many of those that all runs have")
    options = parser.parse_args()
    tables = {str(folder): landed_rows(folder) for folder in options.runs}
    jax.config.update("jax_default_matmul_precision", "highest")
    with TemporaryDirectory() as scratch:
        sweep = SweepOptions(model=options.model)
        inputs = read_inputs(sweep, Path(scratch), print)
        asked: dict[tuple[str, str], tuple[Question, Sequence[StudyRow]]] = {}
        for study in plan_studies(inputs.questions, sweep, inputs.checkpoint.anatomy, print):
            asked |= {(study.task, question.question_id): (question, study.rows) for question in study.questions}
        chosen = [asked[name] for name in some_questions(tables.values(), options.questions)]
        model = inputs.checkpoint.load("float32")
        prompted = PromptedModel(model, inputs.processing, inputs.template, sweep.answer_length)
        tables["the plain engine in float32"] = computed_rows(chosen, prompted)
        with jax.enable_x64(True):
            exact = computed_rows(chosen, replace(prompted, model=widened(model)))
    kept = {name: table.reindex(exact.index) for name, table in tables.items()}
    print(f"{len(chosen)} questions, {len(exact)} rows; largest and mean distance")
    for name, table in kept.items():
        report(f"{name} from float64", table - exact)
    for name, other in combinations(kept, 2):
        report(f"{name} from {other}", kept[name] - kept[other])


def landed_rows(folder: Path) -> pd.DataFrame:
    """A run's numbers by `KEY`; the other columns may be of any version."""
    parts = [pd.read_parquet(path, columns=[*KEY, *NUMBERS]) for path in sorted(folder.glob("results/part-*.parquet"))]
    return pd.concat(parts).set_index(KEY)[NUMBERS].astype(np.float64)


def some_questions(tables: Collection[pd.DataFrame], count: int) -> list[tuple[str, str]]:
    """Task and id of questions that all tables have, of as many tasks as can be."""
    common = set.intersection(*({one[:2] for one in table.index} for table in tables))
    turns: dict[str, list[tuple[str, str]]] = {}
    for one in sorted(common):
        turns.setdefault(one[0], []).append(one)
    ordered = sorted((turn, one) for own in turns.values() for turn, one in enumerate(own))
    return [one for _, one in ordered[:count]]


def widened(model: LoadedModel) -> LoadedModel:
    """The same parameters in float64."""
    return replace(model, state=jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model.state))


def computed_rows(asked: Sequence[tuple[Question, Sequence[StudyRow]]], prompted: PromptedModel) -> pd.DataFrame:
    """Some questions' numbers by `KEY`, by the plain engine in the parameters' own type."""
    dtype = jax.tree.leaves(prompted.model.state)[0].dtype
    found: list[Mapping[str, Any]] = []
    for question, rows in asked:
        prompt = prepare(question, prompted)
        prompt = replace(prompt, pixels=prompt.pixels.astype(dtype))
        knockouts, bounds = task_knockouts(rows, prompted), Bounds(most_pieces=len(rows))
        batch, _ = answer_prompts([prompt], knockouts, prompted, SETTINGS, Portion(1), bounds)
        assert batch.answered.measured is not None
        assert batch.answered.measured.knockout_prob.dtype == dtype
        found += question_result(batch, 0, knockouts, follow_answers(batch, prompted), prompted).rows
    return pd.DataFrame(found).set_index(KEY)[NUMBERS].astype(np.float64)


def report(what: str, apart: pd.DataFrame) -> None:
    """A line for every number."""
    print(what)
    for name in NUMBERS:
        distance = apart[name].abs()
        print(f"  {name:<16} {distance.max():.1e} {distance.mean():.1e}")


if __name__ == "__main__":
    main()
