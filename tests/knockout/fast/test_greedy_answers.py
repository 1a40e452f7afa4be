"""Base answers against transformers' own greedy `generate`."""

from pathlib import Path

import numpy as np
import torch

from tests.knockout.test_torch_knockout import PROMPTS, build
from tests.knockout.tiny_study import arrays
from xmflow_jax.knockout.actions import NOTHING_BLOCKED
from xmflow_jax.knockout.fast.decoding import greedy_answers
from xmflow_jax.knockout.fast.engine import encode, run_base
from xmflow_jax.knockout.study import build_study

STEPS = 6


def test_answers_are_those_of_generate(tmp_path: Path) -> None:
    model, loaded = build(tmp_path)
    batch, _ = arrays(PROMPTS, build_study([NOTHING_BLOCKED], loaded.anatomy))
    features = encode(loaded.net, batch.pixels)
    first = (batch.length - 1).astype(np.int32)
    base = run_base(loaded.net, batch, features, (first,), rows=(1,))

    def ours(end: int) -> np.ndarray:
        ends = np.array([end], np.int32)
        return np.asarray(greedy_answers(loaded.net, base, batch, ends, STEPS))

    def theirs(prompt, end: int) -> list[int]:  # type: ignore[no-untyped-def]
        tokens = torch.tensor(prompt.token_ids[None].astype(np.int64))
        pixels = torch.tensor(prompt.pixels.transpose(0, 3, 1, 2))
        found = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            pixel_values=pixels,
            do_sample=False,
            max_new_tokens=STEPS,
            eos_token_id=end,
            pad_token_id=end,
        )
        return found[0, tokens.shape[1] :].tolist()

    never = 0
    free = ours(never)
    for row, prompt in enumerate(PROMPTS):
        assert free[row].tolist() == theirs(prompt, never)
    # A word of the first answer ends it from now on; what follows the end is the end word.
    end = int(free[0, 2])
    ended = ours(end)
    for row, prompt in enumerate(PROMPTS):
        expected = theirs(prompt, end)
        assert ended[row].tolist() == expected + [end] * (STEPS - len(expected))
    assert (ended[0] == end).sum() >= STEPS - 2
