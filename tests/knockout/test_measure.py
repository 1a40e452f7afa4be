"""Margins, against softmax and logarithm written down with NumPy. `test_whole_answers.py` has them of both engines."""

from typing import Any

import numpy as np

from xmflow_jax.knockout.measure import measure_margins

OPTIONS = np.array([[5, 17], [40, 3], [-1, -1]], np.int32)


def log_odds(logits: np.ndarray) -> np.ndarray:
    """In float64, the long way round: [batch, config] from [batch, config, word]."""
    wide = logits.astype(np.float64)
    prob = np.exp(wide) / np.exp(wide).sum(axis=-1, keepdims=True)
    return np.stack([np.log(own[:, one] / own[:, other]) for own, (one, other) in zip(prob, OPTIONS, strict=True)])


def test_margins_are_the_difference_of_two_log_probabilities() -> None:
    rng: Any = np.random.default_rng(0)
    base, knockout = (rng.normal(scale=5, size=(3, *shape)).astype(np.float32) for shape in ((50,), (4, 50)))
    found = measure_margins(base, knockout, OPTIONS)
    np.testing.assert_allclose(found.base[:2], log_odds(base[:, None])[:2, 0], rtol=1e-5)
    np.testing.assert_allclose(found.knockout[:2], log_odds(knockout)[:2], rtol=1e-5)


def test_a_prompt_without_options_has_no_margin_and_takes_none_from_others() -> None:
    rng: Any = np.random.default_rng(1)
    found = measure_margins(rng.normal(size=(3, 50)), rng.normal(size=(3, 4, 50)), OPTIONS)
    assert np.isnan(found.base).tolist() == [False, False, True]
    assert np.isnan(found.knockout).tolist() == [[False] * 4, [False] * 4, [True] * 4]
