"""A small finished run folder with everything in it, and texts that try to be markup."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tests.run.result_rows import row, skipped
from xmflow_jax.analysis.answer_tracking import track_answers
from xmflow_jax.analysis.heads import summarize_heads
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.analysis.question_matrix import pool_tasks
from xmflow_jax.analysis.recommendation import recommend
from xmflow_jax.analysis.summary import Resampling, summarize
from xmflow_jax.report.page.data import run_data
from xmflow_jax.report.run_content import read_content
from xmflow_jax.run.folder import SET_ASIDE, open_run
from xmflow_jax.run.record import COMMAND_KEY, PLANNED_KEY, SHAPE_KEY
from xmflow_jax.run.schemas import TRACKED

HOSTILE = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'> & {{data}} \u2028 $x$"
TASKS = ("ChooseAttr", "Query<b>Attr</b>")
PATHWAYS = (("Question->Last", "centred"), ("Image->Question", "centred"), ("Image->All", "to-end"))
SIDE = 4  # patches


def write_run(
    folder: Path, tasks: Sequence[str] = TASKS, questions: int = 8, layers: int = 4, planned: int | None = None
) -> Path:
    """A run in which `Question->Last` matters in layer 1, `Image->Question` in layer 0, and `Image->All` up to 1."""
    shape = ModelShape(layers, 8, 2, 2, 4, 16, image_positions=SIDE * SIDE, text_positions=6)
    configuration = {
        "model": {"name": HOSTILE, "digest": "0" * 64, "dtype": "float32"},
        "data": {"questions.csv": "1" * 64},
        "template": {"name": "plain", "text": f"<image>\n{{question}}{HOSTILE}"},
        "pathways": {task: [f"{pathway}@{style}:3" for pathway, style in PATHWAYS] for task in tasks},
        "seed": 3,
        "layers": layers,
    }
    session = {
        SHAPE_KEY: asdict(shape),
        COMMAND_KEY: "python -m xmflow_jax.sweep --samples 16",
        PLANNED_KEY: dict.fromkeys(tasks, planned if planned is not None else questions),
    }
    with open_run(folder, configuration, session) as run:
        for task in tasks:
            for number in range(questions):
                name = f"{task}-{number}"
                run.append_part(_rows(name, task, number, layers), _lens(name, task, layers), [card(name, task)])
        if tasks:
            run.append_skipped([skipped("gone", SET_ASIDE, tasks[0], f"image {HOSTILE} does not exist")])
    return folder


def data_of(folder: Path) -> dict[str, Any]:
    """What the page of a run folder shows."""
    content, resampling = read_content(folder), Resampling(seed=3)
    summary, heads = (find(content.rows, resampling=resampling) for find in (summarize, summarize_heads))
    if summary.empty:
        return run_data(content, summary, None, None)
    recommendation = recommend(content.rows, summary, content.shape, resampling=resampling)
    if summary["task"].nunique() > 1:
        summary = pd.concat([summarize(pool_tasks(content.rows), resampling=resampling), summary], ignore_index=True)
    tracking = track_answers(content.lens) if len(content.lens) else None
    return run_data(content, summary, recommendation, tracking, heads)


def card(name: str, task: str, text: str = HOSTILE, pixels: np.ndarray | None = None) -> dict[str, Any]:
    stream = io.BytesIO()
    image = np.full((28, 28, 3), 90, np.uint8) if pixels is None else pixels
    Image.fromarray(image).save(stream, format="png")
    return {
        "question_id": name,
        "task": task,
        "text": f"{text} {name}",
        "image": stream.getvalue(),
        "patch_rows": SIDE,
        "patch_columns": SIDE,
        "object_patches": [5, 6],
        "padding_patches": [12, 13, 14, 15],
        "tokens": ["<s>", f"<image: {SIDE * SIDE} positions>", " Is", f" it {HOSTILE}", "?", "\n", ":"],
        "token_roles": [
            ["System"],
            ["Image"],
            ["Question"],
            ["Question", "Central Object"],
            ["Question"],
            [],
            ["Last"],
        ],
    }


def _rows(name: str, task: str, number: int, layers: int) -> list[Mapping[str, Any]]:
    rows = []
    for pathway, style in PATHWAYS:
        for layer in range(layers):
            hit = {"Question->Last": layer == 1, "Image->Question": layer == 0, "Image->All": layer < 2}[pathway]
            base = 0.9 - 0.01 * number
            left = 0.1 + 0.001 * layer if hit else base - 0.002 * number
            rows.append(
                row(
                    question_id=name, task=task, pathway=pathway, style=style, layer=layer, window=3,
                    gold=HOSTILE, base_answer="red", knockout_answer=HOSTILE if hit else "red",
                    base_prob=base, knockout_prob=left, relative_change=100 * (left - base) / base,
                    knockout_score=0.0 if hit else 1.0,
                    **_margins(task, hit),
                )
            )  # fmt: skip
            if pathway == "Question->Last":  # the second of two heads does what the pathway does
                rows += [{**rows[-1], "head": 1}, {**rows[-1], "head": 0, "knockout_score": 1.0}]
    return rows


def _margins(task: str, hit: bool) -> dict[str, float | None]:
    """Questions of the first task name two options."""
    return {"base_margin": 2.0, "knockout_margin": -1.0 if hit else 1.75} if task == TASKS[0] else {}


def _lens(name: str, task: str, layers: int) -> list[Mapping[str, Any]]:
    rows = []
    for layer in range(-1, layers):
        for normed in (False, True):
            share = (layer + 1) / layers
            values = (share, share / 2, None if task == TASKS[0] else 0.1, None)
            rows.append(
                {
                    "question_id": name,
                    "task": task,
                    "layer": layer,
                    "normed": normed,
                    "answer": "red",
                    "false_option": None if values[2] is None else "blue",
                    **dict(zip(TRACKED, values, strict=True)),
                    "top_words": ["red", HOSTILE, " "],
                    "top_probs": [0.5, 0.25, 0.125],
                }
            )
    return rows
