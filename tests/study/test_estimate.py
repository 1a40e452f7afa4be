"""What a study will take: counts against loops, bytes against parts that were really written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.run.result_rows import lens_row, row
from xmflow_jax.data import roles
from xmflow_jax.data.place import plain_place
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.question import Box, Question
from xmflow_jax.errors import RunFolderError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.knockout.costs import model_costs
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.run.folder import open_run, read_lens, write_lens
from xmflow_jax.study.estimate import Estimate, check_space, duration, estimate_work, matmul_rate, scaled
from xmflow_jax.study.options import SweepOptions
from xmflow_jax.study.task_studies import plan_studies
from xmflow_jax.weights.load import ModelIdentity

LAYERS = 4
MODEL = LlavaConfig(
    ClipVisionConfig(28, 14, width=8, mlp_width=8, layers=1, heads=1),
    LlamaConfig(10, width=8, mlp_width=8, layers=LAYERS, heads=4, kv_heads=4, head_width=2),
    image_token=9,
)


IDENTITY = ModelIdentity(LLAVA, MODEL, "float32", "")


def question(number: int, task: str) -> Question:
    return Question(f"{number:04d}", "1", Path("1.jpg"), "Is it red?", "red", task, boxes=(Box(0, 0, 1, 1),))


def prompt(asked: Question) -> PreparedQuestion:
    """One system word, four image positions, three words of the question, two of the template."""
    mask = {role: np.zeros(10, bool) for role in (roles.IMAGE, roles.QUESTION, roles.LAST, roles.ALL)}
    mask[roles.IMAGE][1:5] = mask[roles.QUESTION][5:8] = mask[roles.LAST][-1:] = mask[roles.ALL][:] = True
    tokens = np.where(mask[roles.IMAGE], 9, 1).astype(np.int32)
    return PreparedQuestion(asked, "", tokens, np.zeros((1, 28, 28, 3), np.float32), mask, (), plain_place(10))


def work(done: set[tuple[str, str]], pathways: str = "Last->Last@single", batch_size: int = 2) -> Estimate:
    questions = [question(number, task) for task, count in (("One", 3), ("Two", 5)) for number in range(count)]
    options = SweepOptions(pathways=pathways)
    studies = plan_studies(questions, options, LLAVA.anatomy(MODEL), print)
    typical = {study.task: prompt(study.questions[0]) for study in studies}
    return estimate_work(studies, typical, done, IDENTITY, batch_size)


def test_counts_and_operations_of_what_is_left() -> None:
    done = {("One", "0000"), ("Two", "0001"), ("Two", "0004"), ("Elsewhere", "0000")}
    estimate = work(done)
    assert (estimate.questions, estimate.done, estimate.tasks, estimate.pathways) == (8, 3, 2, 1)
    assert (estimate.layers, estimate.knockouts) == (LAYERS, 5 * LAYERS)
    # One question, by hand: the image, the base run, and for the knockout of layer l one row from there to the end.
    text, costs = MODEL.text, model_costs(IDENTITY.net, np.zeros((1, 28, 28, 3), np.float32))
    block = costs.stacks[-1].blocks[-1]
    base = (LAYERS - 1) * block.rows(np.arange(1, 11), 0) + block.last_rows(10, 10, 0)
    knockouts = sum(
        (LAYERS - 1 - layer) * block.rows(np.array([10]), 0) + block.last_rows(1, 10, 0) for layer in range(LAYERS)
    )
    readout = (1 + LAYERS) * 2 * text.width * text.vocabulary
    assert estimate.operations == 5 * (costs.images + base + knockouts + readout)
    assert 0 < estimate.seconds < 10


def test_nothing_left_costs_nothing() -> None:
    done = {(task, f"{number:04d}") for task in ("One", "Two") for number in range(5)}
    estimate = work(done)
    assert (estimate.done, estimate.knockouts, estimate.operations, estimate.seconds) == (8, 0, 0, 0)


def test_bytes_are_about_those_of_real_parts(tmp_path: Path) -> None:
    pathways = "Last->Last, Image->Last, Question->Last, Image->Question"
    estimate, nothing = work(set(), pathways), work({("One", f"{n:04d}") for n in range(3)}, pathways)
    rng = np.random.default_rng(0)
    with open_run(tmp_path, {}) as run:
        for first in (0, 2, 4):
            ids = [f"{number:04d}" for number in range(first, min(first + 2, 5))]
            changes: Any = [
                row(
                    one, layer, "Two", pathway=pathway, knockout_prob=float(rng.random()), base_prob=float(rng.random())
                )
                for one in ids
                for pathway in ("Last->Last", "Image->Last", "Question->Last", "Image->Question")
                for layer in range(LAYERS)
            ]
            states = [(one, layer, normed) for one in ids for layer in range(-1, LAYERS) for normed in (False, True)]
            top = [[float(prob) for prob in np.sort(rng.random(5, np.float32))[::-1]] for _ in states]
            words = [[str(token) for token in rng.integers(0, 10, 5)] for _ in states]
            tracked = [
                lens_row(
                    one, layer, "Two", normed=normed, answer_prob=probs[0], answer_capital_prob=probs[1],
                    top_words=said, top_probs=probs,
                )
                for (one, layer, normed), said, probs in zip(states, words, top, strict=True)
            ]  # fmt: skip
            run.append_part(changes, tracked)
    write_lens(tmp_path, read_lens(tmp_path))
    real = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    report = work({(task, f"{n:04d}") for task in ("One", "Two") for n in range(5)}, pathways).bytes
    assert nothing.bytes - report == pytest.approx(real, rel=0.3)
    assert estimate.bytes > nothing.bytes


def test_the_line_says_all_of_it() -> None:
    line = Estimate(1200, 1, 6, 7, 32, 100800, 1.13e12, 28.4, 12.2e6).line()
    for part in (
        "1200 questions of 6 tasks", "7 pathways", "32 layers", "100800 knockouts to run", "1 question done",
        "1.13 TFLOP", "28 s (an estimate", "12.2 MB",
    ):  # fmt: skip
        assert part in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (999_700, "1.00 MB"), (5e18, "5000 PB")],
)
def test_three_digits(number: float, text: str) -> None:
    assert scaled(number, "B") == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "less than 1 s"), (99, "99 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_disk_without_room_is_refused() -> None:
    check_space(10, 10, "here")
    with pytest.raises(RunFolderError, match=r"the disk of here has 9 B free, but the results need about 2.00 kB"):
        check_space(2000, 9, "here")


def test_the_rate_is_the_machines() -> None:
    """Between a pocket calculator's and all of today's accelerators'."""
    assert 1e6 < matmul_rate(64, 128, "float32") < 1e17
