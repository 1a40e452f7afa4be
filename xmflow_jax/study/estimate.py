"""What a study will take, before it starts: configurations, operations, time and disk.

Operations are counted exactly, on one representative prompt of each task. Time is an estimate: those operations at a
fraction of the rate of a matmul of the model's own width, measured on the spot. Bytes are measured on a part with such
a prompt's rows.
"""

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xmflow_jax.data.batch import build_batch
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.templates import Template
from xmflow_jax.errors import QuestionSetAside, RunFolderError
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.controls import question_key
from xmflow_jax.knockout.costs import ModelCosts, StackCosts, model_costs, necessary_operations
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.lens import TOP, Lens
from xmflow_jax.knockout.study import build_study
from xmflow_jax.measures.measure import made_up
from xmflow_jax.run.parts import part_bytes
from xmflow_jax.run.schemas import TRACKED
from xmflow_jax.study.lens import TrackedWords, lens_rows
from xmflow_jax.study.rows import question_rows
from xmflow_jax.study.task_studies import TaskStudy
from xmflow_jax.weights.load import ModelIdentity

# A sweep's rate over a matmul's: padding, attention and the rows of small models keep it below 1.
EFFICIENCY = 0.5

# Rows of the measured matmul, and how long it is measured at most.
MATMUL_ROWS = 512
MEASURED_SECONDS = 0.2

# Summary, recommendation, figures and record: measured 3.4 MB for six tasks, however many questions.
REPORT_BYTES = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """What is left to do, if every question left is selected and can be used, as far as is known.

    Attributes:
        questions, done: questions of the study, and how many of them the run folder holds already.
        tasks, pathways, layers: of the study.
        knockouts: configurations of the questions left that can be used.
        operations: necessary floating-point operations of the questions left.
        seconds: estimated; compilation is not in it.
        bytes: of the results that will be written.
    """

    questions: int
    done: int
    tasks: int
    pathways: int
    layers: int
    knockouts: int
    operations: float
    seconds: float
    bytes: float

    def line(self) -> str:
        """For people."""
        return (
            f"{count(self.questions, 'question')} of {count(self.tasks, 'task')}, {count(self.pathways, 'pathway')}, "
            f"{count(self.layers, 'layer')}, {count(self.knockouts, 'knockout')} to run; "
            f"{count(self.done, 'question')} done; about {scaled(self.operations, 'FLOP')} necessary, "
            f"{duration(self.seconds)} (an estimate, without compilation), {scaled(self.bytes, 'B')} of results"
        )


def usable_prompts(
    questions: Sequence[Question],
    processing: Processing,
    template: Template,
    check: Callable[[PreparedQuestion], None] = lambda prompt: None,
) -> Iterator[PreparedQuestion]:
    """The questions that can be used, in order, as a model reads them.

    Args:
        check: raises `QuestionSetAside` for a prompt that cannot be used after all.
    """
    for question in questions:
        try:
            prompt = prepare_question(question, processing, template)
            check(prompt)
        except QuestionSetAside:
            continue
        yield prompt


def estimate_work(
    studies: Sequence[TaskStudy],
    representatives: Mapping[str, PreparedQuestion],
    done: set[tuple[str, str]],
    identity: ModelIdentity,
    batch_size: int,
    unusable: Collection[tuple[str, str]] = (),
) -> Estimate:
    """The work that is left of these studies.

    Args:
        representatives: a prompt of each task; a task without one has no question that can be used, and costs nothing.
        identity: of the model.
        done: `(task, question_id)` of what the run folder holds.
        batch_size: questions in a part.
        unusable: `(task, question_id)` of what will be set aside, as far as is known.
    """
    anatomy, layers = identity.anatomy, identity.anatomy.main.layers
    costs: ModelCosts | None = None
    operations, written, knockouts, total, finished = 0.0, 0.0, 0, 0, 0
    for study in studies:
        asked = {(question.task, question.question_id) for question in study.questions}
        left = len(asked.difference(done, unusable))
        total += len(study.questions)
        finished += len(asked.intersection(done))
        knockouts += left * len(study.rows)
        if study.task not in representatives or not left:
            continue
        prompt = representatives[study.task]
        built = build_study([row.knockout for row in study.rows], anatomy)
        batch = build_batch([prompt])
        key = question_key(prompt.question.task, prompt.question.question_id)
        positions = build_positions([prompt], built.actions, batch.tokens.shape[1], keys=[key])
        costs = costs or model_costs(identity.net, prompt.pixels)
        operations += left * necessary_operations(costs, place_study(built, positions, batch), batch).total
        written += left * bytes_per_question(study, prompt, min(batch_size, left), layers, anatomy.vocabulary)
    rate = 1.0 if costs is None else matmul_rate(*typical_product(costs.stacks[-1]), identity.dtype)
    return Estimate(
        questions=total,
        done=finished,
        tasks=len(studies),
        pathways=len({(row.kind, row.pathway, row.style) for study in studies for row in study.rows}),
        layers=layers,
        knockouts=knockouts,
        operations=operations,
        seconds=operations / (rate * EFFICIENCY),
        bytes=written + REPORT_BYTES,
    )


def bytes_per_question(
    study: TaskStudy, prompt: PreparedQuestion, batch_size: int, layers: int, vocabulary: int
) -> float:
    """Bytes on disk of one question's rows, measured on parts of `batch_size` questions with made-up numbers."""
    rng: Any = np.random.default_rng(0)
    rows: list[Mapping[str, Any]] = []
    tracked: list[Mapping[str, Any]] = []
    states = (1, layers + 1, 2)
    overlaps = {action: 0.5 for row in study.rows for action, *_ in row.knockout.switched}
    words = TrackedWords("an answer", prompt.question.false_option, np.zeros(len(TRACKED), np.int32))
    for number in range(batch_size):
        made = question_rows(prompt.question, study.rows, (), made_up(rng, len(study.rows)), overlaps)
        rows += [{**row, "question_id": f"{row['question_id']}{number}"} for row in made]
        top = rng.integers(0, vocabulary, (*states, TOP)), rng.random((*states, TOP), np.float32)
        read = lens_rows(prompt.question, words, Lens(rng.random((*states, len(TRACKED)), np.float32), *top), 0, str)
        tracked += [{**row, "question_id": f"{row['question_id']}{number}"} for row in read]
    # Lens rows are written twice: as a part, and by the report in one file.
    return (part_bytes(rows) + 2 * part_bytes(tracked, "lens")) / batch_size


def typical_product(stack: StackCosts) -> tuple[int, int]:
    """Rows and columns of a matrix as a block multiplies with: a fourth of all that its positions go through."""
    return stack.width, max(1, stack.blocks[-1].dense // (2 * stack.width * 4))


def matmul_rate(inner: int, outer: int, dtype: str) -> float:
    """Floating-point operations a second of a matmul of these widths on JAX's default device."""
    left, right = jnp.ones((MATMUL_ROWS, inner), dtype), jnp.ones((inner, outer), dtype)
    multiply = jax.jit(partial(jnp.einsum, "ri,io->ro"))
    multiply(left, right).block_until_ready()
    took: list[float] = []
    while len(took) < 3 or (sum(took) < MEASURED_SECONDS and len(took) < 50):
        start = time.perf_counter()
        multiply(left, right).block_until_ready()
        took.append(time.perf_counter() - start)
    return 2 * MATMUL_ROWS * inner * outer / statistics.median(took)


def check_space(needed: float, free: float, folder: object) -> None:
    """Refuse a disk that clearly cannot hold the results. Others may fill it meanwhile: this is no promise.

    Args:
        needed, free: bytes.
        folder: for the message.

    Raises:
        RunFolderError: less is free than needed.
    """
    if free < needed:
        raise RunFolderError(
            f"the disk of {folder} has {scaled(free, 'B')} free, but the results need about {scaled(needed, 'B')}; "
            "make room or give another folder"
        )


def count(number: int, noun: str) -> str:
    """`1 question`, `20160 questions`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def scaled(number: float, unit: str) -> str:
    """Three digits and a decimal prefix: `12.3 TFLOP`."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if number < 999.5 or prefix == "P":
            digits = 0 if number >= 99.95 or prefix == "" else 1 if number >= 9.995 else 2
            return f"{number:.{digits}f} {prefix}{unit}"
        number /= 1000
    raise AssertionError("the last prefix returns")


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"
