"""Whole answers of both engines against PyTorch: transformers' LLaVA, decoded greedily under explicit 4-D masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.knockout.test_torch_knockout import ANATOMY, PROMPTS, build, study_mask, torch_probabilities
from tests.knockout.test_whole_answers import grown_roles
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study

STEPS = 5


def test_equal_to_pytorchs_greedy_decoding_under_the_same_masks(tmp_path: Path) -> None:
    model, loaded = build(tmp_path)
    chosen = (
        Pathway("Image", "Question"),
        Pathway("Image", "Last"),
        Pathway("Question", "Last"),
        Pathway("Last", "Last"),
    )
    pathways = [(pathway, "centred") for pathway in chosen]
    rows = pathway_study([*pathways, (Pathway("Image", "All"), "to-end")], ANATOMY, 3)[::3]
    knockouts = [row.knockout for row in rows]

    def published(row: int, column: int, end: int) -> list[int]:
        answer: list[int] = []
        while len(answer) < STEPS and end not in answer:
            prompt = PROMPTS[row]
            tokens = np.concatenate([prompt.token_ids, np.array(answer, np.int32)])
            longer = replace(prompt, token_ids=tokens, roles=grown_roles(prompt.roles, len(answer)))
            with study_mask(model, longer, knockouts[column])():
                answer.append(int(torch_probabilities(model, longer).argmax()))
        return answer + [end] * (STEPS - len(answer))

    # A token that some answers hold, so that they end early.
    end = published(0, 0, -1)[2]
    study = build_study(knockouts, ANATOMY)
    expected = [[published(row, column, end) for column in range(len(rows))] for row in range(len(PROMPTS))]
    bases = []

    def select(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        bases.append(tokens)
        return np.ones(len(tokens), bool)

    for engine in ("fast", "plain"):
        found = answer_batch(loaded.net, PROMPTS, Request(study, (end,), STEPS, engine), select)
        np.testing.assert_array_equal(found.tokens, expected)
    changed = (np.array(expected) != bases[0][:, None]).any(2)
    assert 0.1 < changed.mean() < 1
