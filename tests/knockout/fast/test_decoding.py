"""Base answers against transformers' own greedy `generate`: ended by one token or any of several, and of one token."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.knockout.test_torch_knockout import PROMPTS, build
from tests.knockout.tiny_study import TinyPrompt, arrays
from xmflow_jax.knockout.actions import NOTHING_BLOCKED
from xmflow_jax.knockout.fast.decoding import greedy_draft
from xmflow_jax.knockout.fast.engine import encode, run_base
from xmflow_jax.knockout.study import build_study

STEPS = 5


def published(model, prompt: TinyPrompt, ends: list[int], steps: int) -> list[int]:  # type: ignore[no-untyped-def]
    tokens = torch.tensor(prompt.token_ids[None].astype(np.int64))
    found = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        pixel_values=torch.tensor(prompt.pixels.transpose(0, 3, 1, 2)),
        do_sample=False,
        max_new_tokens=steps,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    return found[0, tokens.shape[1] :].tolist()


def decoder(loaded: Any, prompts: Sequence[TinyPrompt]) -> tuple[np.ndarray, Callable[[list[int], int], Any]]:
    """The base run's logits, and its answers that these tokens end, at most so many tokens of each."""
    batch, _ = arrays(prompts, build_study([NOTHING_BLOCKED], loaded.anatomy))
    features = encode(loaded.net, batch.pixels)
    first = (batch.length - 1).astype(np.int32)
    base = run_base(loaded.net, batch, features, (first,), rows=(1,))

    def decode(ends: list[int], steps: int) -> list[list[int]]:
        end_tokens = np.array(ends, np.int32)
        return np.asarray(greedy_draft(loaded.net, base, batch, end_tokens, steps).tokens).tolist()

    return np.asarray(base.logits), decode


def test_answers_are_those_of_generate(tmp_path: Path) -> None:
    model, loaded = build(tmp_path)
    _, ours = decoder(loaded, PROMPTS)
    never, steps = 0, STEPS + 1
    free = ours([never], steps)
    assert free == [published(model, prompt, [never], steps) for prompt in PROMPTS]
    # A word of the first answer ends it from now on; what follows the end is the end word.
    end = free[0][2]
    ended = ours([end], steps)
    for own, prompt in zip(ended, PROMPTS, strict=True):
        expected = published(model, prompt, [end], steps)
        assert own == expected + [end] * (steps - len(expected))
    assert ended[0].count(end) >= steps - 2


def test_several_end_tokens_and_answers_of_one_token(tmp_path: Path) -> None:
    model, loaded = build(tmp_path)
    _, ours = decoder(loaded, PROMPTS)
    used = {token for prompt in PROMPTS for token in published(model, prompt, [0], STEPS)}
    never, absent = sorted(set(range(50)) - used)[:2]
    free = ours([never, absent], STEPS)
    assert free == [published(model, prompt, [never, absent], STEPS) for prompt in PROMPTS]
    # Each answer ends by another of the two tokens, at another step; the first token fills both.
    ends = [free[0][0], next(token for token in free[1][1:] if token != free[0][0])]
    ended = ours(ends, STEPS)
    lengths = []
    for row, prompt in enumerate(PROMPTS):
        expected = published(model, prompt, ends, STEPS)
        assert ended[row] == expected + [ends[0]] * (STEPS - len(expected))
        assert len(expected) < STEPS or expected[-1] in ends
        lengths.append(len(expected))
    assert lengths[0] == 1 < lengths[1]
    assert ours([never], 1) == [answer[:1] for answer in free]


@pytest.mark.parametrize("fill", [7, 13])
def test_a_batch_whose_answers_all_end_at_once(tmp_path: Path, fill: int) -> None:
    """The loop stops before its first step, and the places after the end are filled all the same."""
    _, loaded = build(tmp_path)
    logits, ours = decoder(loaded, PROMPTS[:1])
    end = int(np.argmax(logits[0]))
    assert ours([fill, end], STEPS) == [[end] + [fill] * (STEPS - 1)]
