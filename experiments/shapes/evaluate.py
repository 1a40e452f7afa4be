"""How well a shipped model answers: `python -m experiments.shapes.evaluate checkpoints/shapes-llava`.

Fresh scenes of the test split, through the shipped files and the program's own pipeline: image processor, tokenizer,
engine. Beside the accuracy stand three baselines: the image blanked, every image edge blocked, and the best guess from
the question's text.
"""

import argparse
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from xmflow_jax.data.batch import in_batches, prompt_bucket
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.shapes.source import drawn_questions, shapes_questions
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.knockout.actions import block, pathway_site
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.scoring.exact import exact_match
from xmflow_jax.weights.load import LoadedModel

# Questions of each task from which the best guess of every question's text is learnt.
TEXT_QUESTIONS: Final = 40_000
BATCH_SIZE: Final = 64
BACKGROUND: Final = 90


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share, in percent (Wilson 1927)."""
    share, centre = right / count, (right / count + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return 100 * (centre - half), 100 * (centre + half)


def text_guess(questions: Sequence[Question], per_task: int = TEXT_QUESTIONS) -> dict[str, float]:
    """For each task the accuracy, in percent, of the answer that is most frequent for the very same text.

    Learnt from the train split, so that chance among a few test questions of one text does not count.
    """
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    of_task: dict[str, Counter[str]] = defaultdict(Counter)
    for drawn in drawn_questions("train", per_task):
        seen[drawn.asked.text][drawn.asked.answer] += 1
        of_task[drawn.asked.task][drawn.asked.answer] += 1
    right: dict[str, list[bool]] = defaultdict(list)
    for question in questions:
        counts = seen.get(question.text) or of_task[question.task]
        right[question.task].append(counts.most_common(1)[0][0] == question.answer)
    return {task: 100 * float(np.mean(own)) for task, own in right.items()}


def answers(
    model: LoadedModel, processing: Processing, prompts: Iterator[PreparedQuestion]
) -> Iterator[tuple[Question, str, str]]:
    """Each question with the model's whole answer, and the first word of its answer with every image edge blocked."""
    anatomy, pathway = model.anatomy, Pathway("Image", "All")
    everywhere = block(pathway, range(anatomy.main.layers), site=pathway_site(pathway, anatomy))
    request = Request(build_study([everywhere], anatomy), processing.end_tokens, answer_length=3, whole_answers=False)
    for batch in in_batches(prompts, BATCH_SIZE, prompt_bucket):
        said: list[str] = []

        def select(tokens: Any, logits: Any, said: list[str] = said) -> np.ndarray:
            said.extend(processing.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens)
            return np.ones(len(tokens), bool)

        answered = answer_batch(model.net, batch, request, select)
        assert answered.measured is not None
        blocked = (
            processing.tokenizer.decode([int(token)]).strip() for token in answered.measured.knockout_token[:, 0]
        )
        yield from zip([prompt.question for prompt in batch], said, blocked, strict=True)


def evaluate(directory: Path, per_task: int) -> pd.DataFrame:
    """One row per task: `n`, accuracies in percent, the accuracy's 95 % interval.

    Columns `accuracy`, `low`, `high`; `blank`: the image replaced by the empty background; `blocked`: `Image->All`
    blocked in every layer; `text_guess`.
    """
    checkpoint = read_checkpoint(directory)
    processing, model = checkpoint.processing(), checkpoint.load("float32")
    template = checkpoint.prompt(processing).template
    with TemporaryDirectory() as scratch:
        questions = read_questions(*shapes_questions(Path(scratch), "test", per_task))
        layout = processing.image_layout((1, 1))
        size = layout.rows * layout.side
        blank = processing.pixels([Image.new("RGB", (size, size), (BACKGROUND,) * 3)])

        def prepared(empty: bool) -> Iterator[PreparedQuestion]:
            for question in questions:
                prompt = prepare_question(question, processing, template)
                yield dataclasses.replace(prompt, pixels=blank) if empty else prompt

        rows = [
            {"task": question.task, "accuracy": exact_match(said, question.answer),
             "blocked": exact_match(blocked, question.answer)}
            for question, said, blocked in answers(model, processing, prepared(empty=False))
        ]  # fmt: skip
        blind = [
            {"task": question.task, "blank": exact_match(said, question.answer)}
            for question, said, _ in answers(model, processing, prepared(empty=True))
        ]
    table = pd.DataFrame(rows).groupby("task").mean() * 100
    table["blank"] = pd.DataFrame(blind).groupby("task")["blank"].mean() * 100
    table["text_guess"] = pd.Series(text_guess(questions))
    table["n"] = pd.DataFrame(rows).groupby("task").size()
    bounds = [wilson(round(share * n / 100), n) for share, n in zip(table["accuracy"], table["n"], strict=True)]
    table["low"], table["high"] = zip(*bounds, strict=True)
    return table[["n", "accuracy", "low", "high", "blank", "text_guess", "blocked"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a shipped model's directory")
    parser.add_argument("--per-task", type=int, default=2000, help="test questions of each task (default: 2000)")
    arguments = parser.parse_args()
    print(evaluate(arguments.model, arguments.per_task).round(2).to_string())


if __name__ == "__main__":
    main()
