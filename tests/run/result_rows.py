"""What the tests of the run folder share: rows, listings, and processes that may be killed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIGURATION = {"model": "shapes-tiny", "window": 9, "style": "centred", "mesh": {"data": 1}}


def row(question_id: str, layer: int = 0, task: str = "ChooseAttr", **changes: Any) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "image_id": f"image of {question_id}",
        "task": task,
        "kind": "edges",
        "mode": "mask",
        "pathway": "Image->Question",
        "style": "centred",
        "layer": layer,
        "window": 9,
        "control": 0,
        "head": -1,
        "gold": "red",
        "base_answer": "red",
        "knockout_answer": "blue",
        "base_token": 7,
        "knockout_token": 8,
        "base_prob": 0.8,
        "knockout_prob": 0.4,
        "relative_change": -50.0,
        "base_score": 1.0,
        "knockout_score": 0.0,
        "base_margin": None,
        "knockout_margin": None,
        "control_overlap": None,
    } | changes


def skipped(question_id: str, kind: str, task: str = "ChooseAttr", reason: str = "why") -> dict[str, str]:
    return {"question_id": question_id, "task": task, "kind": kind, "reason": reason, "base_answer": ""}


def lens_row(question_id: str, layer: int = 0, task: str = "ChooseAttr", **changes: Any) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "task": task,
        "layer": layer,
        "normed": False,
        "answer": "red",
        "answer_prob": 0.5,
        "answer_capital_prob": 0.25,
        "false_option": None,
        "false_option_prob": None,
        "false_option_capital_prob": None,
        "top_words": ["red", "Red"],
        "top_probs": [0.5, 0.25],
    } | changes


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A process that runs `code` with this module's rows and the run folder's functions at hand."""
    head = "import os, signal, sys, time; from tests.run.result_rows import *; from xmflow_jax.run.folder import *; "
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
