"""How a family is compared with transformers' PyTorch: one random checkpoint in both, every layer's states, and the
probabilities under knockouts."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tests.families.full_pass import FullPass
from tests.families.torch_reference import torch_model
from tests.knockout.tiny_study import TinyPrompt, arrays, run_plain
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.family import Family
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.measure import measure
from xmflow_jax.knockout.study import build_study
from xmflow_jax.weights.load import LoadedModel
from xmflow_jax.weights.random_checkpoint import write_random

# Of a layer's states as a share of their largest; of logits; of probabilities.
LAYER: Final = 1e-5
LOGITS: Final = 1e-4
PROBABILITY: Final = 1e-5

# Names a folder that takes the figures of a run of these tests.
FIGURES: Final = "XMFLOW_PARITY_FIGURES"
# Of a hidden state as a share of its largest number; of logits; of probabilities.
OF_LAYERS, OF_LOGITS, OF_PROBABILITIES = KINDS = ("layers", "logits", "probabilities")

# PyTorch's logits [vocabulary] of one prompt's first answer token under a knockout.
Reference = Callable[[Knockout], np.ndarray]


def load_pair(family: Family, config: Any, class_name: str, dtype: str = "float32") -> tuple[LoadedModel, Any]:
    """The same random checkpoint here, in this type, and in transformers' float32 model of this class."""
    with TemporaryDirectory() as folder:
        write_random(Path(folder), family, config, seed=0)
        loaded = load_model(Path(folder), dtype)
        assert loaded.config == config
        return loaded, torch_model(Path(folder), class_name)


def last_logits(output: Any) -> Float[np.ndarray, " vocabulary"]:
    """Those of the last position of the one prompt of transformers' output, in float32."""
    found: np.ndarray = output.logits[0, -1].float().numpy()
    return found


def probabilities(logits: Any) -> Float[np.ndarray, "... vocabulary"]:
    """Softmax of logits [..., vocabulary] in float32."""
    return np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1))


def check_every_layer(ours: FullPass, theirs: Any, row: int = 0) -> None:
    """Every layer's input, the normed output of the last one, and the logits, at all positions of a prompt.

    Args:
        ours: of a batch of prompts, padded behind their last word.
        theirs: transformers' output with `output_hidden_states`, of the prompt alone.
        row: the prompt's place in the batch.
    """
    logits = theirs.logits[0].numpy()
    length = len(logits)
    # The last published state has gone through the norm.
    found = [*ours.inputs[:, row, :length], ours.normed[row, :length]]
    for layer, (own, state) in enumerate(zip(found, theirs.hidden_states, strict=True)):
        expected, where = state[0].numpy(), f"prompt {row}, layer {layer}"
        assert_close(own, expected, LAYER * float(np.abs(expected).max()), where, OF_LAYERS)
    # Lively enough for the comparison to mean something.
    assert logits.std() > 0.5
    assert_close(ours.logits[row, :length], logits, LOGITS, f"prompt {row}, logits", OF_LOGITS)


class PublishedAnswers(NamedTuple):
    """PyTorch's probabilities of the first answer token.

    Attributes:
        clean: with nothing blocked.
        knockout: under every knockout.
    """

    clean: Float[np.ndarray, "prompt vocabulary"]
    knockout: Float[np.ndarray, "prompt knockout vocabulary"]

    def changes(self) -> Float[np.ndarray, "prompt knockout vocabulary"]:
        """By how much a knockout changes each word's probability, at least 0."""
        return np.abs(self.knockout - self.clean[:, None])

    def changes_of_answers(self) -> Float[np.ndarray, "prompt knockout"]:
        """The same of the word that is answered while nothing is blocked."""
        token = self.clean.argmax(-1)[:, None, None]
        return np.take_along_axis(self.changes(), token, axis=-1)[..., 0]


def check_knockouts(
    loaded: LoadedModel, prompts: Sequence[TinyPrompt], knockouts: Sequence[Knockout], references: Sequence[Reference]
) -> PublishedAnswers:
    """Every word's probability in one batch, clean and under each knockout, in both engines; and what is measured.

    Args:
        references: one for each prompt.
    """
    clean = np.array([reference(NOTHING_BLOCKED) for reference in references])
    blocked = np.array([[reference(one) for one in knockouts] for reference in references])
    published = PublishedAnswers(probabilities(clean), probabilities(blocked))
    study = build_study(knockouts, loaded.anatomy)
    batch, positions = arrays(prompts, study)
    fast = sweep_fast(loaded.net, batch, positions, study)
    plain = run_plain(loaded.net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
    assert_close(probabilities(fast.base), published.clean, PROBABILITY, "nothing blocked", OF_PROBABILITIES)
    for engine, logits in (("fast", fast.knockout), ("plain", plain)):
        found, measured = probabilities(logits), measure(fast.base, logits)
        np.testing.assert_array_equal(measured.base_token, clean.argmax(-1), err_msg=engine)
        for column, knockout in enumerate(knockouts):
            expected, where = published.knockout[:, column], f"{engine}: {knockout}"
            assert_close(found[:, column], expected, PROBABILITY, where, OF_PROBABILITIES)
            np.testing.assert_array_equal(measured.knockout_token[:, column], blocked[:, column].argmax(-1), where)
            answered = expected[np.arange(len(expected)), measured.base_token]
            assert_close(measured.knockout_prob[:, column], answered, PROBABILITY, where)
    return published


def check_lively_knockouts(
    loaded: LoadedModel, prompts: Sequence[TinyPrompt], knockouts: Sequence[Knockout], references: Sequence[Reference]
) -> None:
    """As `check_knockouts`; most knockouts change an answer's probability by a hundred times the bound."""
    published = check_knockouts(loaded, prompts, knockouts, references)
    assert (published.changes_of_answers() > 100 * PROBABILITY).mean() > 0.5


def assert_close(own: Any, expected: np.ndarray, bound: float, where: str, kind: str | None = None) -> None:
    """No number of two arrays of one shape differs by more than the bound; none is NaN.

    Args:
        kind: one of `KINDS`, to be noted where `FIGURES` names a folder.
    """
    assert own.shape == expected.shape, where
    np.testing.assert_allclose(own, expected, rtol=0, atol=bound, equal_nan=False, err_msg=where)
    if kind is not None and (folder := os.environ.get(FIGURES)):
        _note(Path(folder), kind, np.asarray(own), expected)


def _note(folder: Path, kind: str, own: np.ndarray, expected: np.ndarray) -> None:
    """A line about the largest difference, for `experiments/families/parity_figures.py`."""
    largest = float(np.abs(own - expected).max())
    if kind == OF_LAYERS:
        largest /= float(np.abs(expected).max())
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test": test, "kind": kind, "largest": largest}) + "\n")


def check_bfloat16_beside(
    wide: LoadedModel, narrow: LoadedModel, prompts: Sequence[TinyPrompt], published: Sequence[np.ndarray]
) -> None:
    """Two programs that round after other operations: ours is no further from float32 than PyTorch's is.

    Args:
        wide, narrow: ours in float32 and in bfloat16.
        published: PyTorch's logits [vocabulary] of each prompt's first answer token in bfloat16.
    """
    assert {leaf.dtype.name for leaf in jax.tree.leaves(narrow.state)} == {"bfloat16"}
    study = build_study([NOTHING_BLOCKED], wide.anatomy)
    batch, positions = arrays(prompts, study)
    exact, own = (probabilities(sweep_fast(one.net, batch, positions, study).base) for one in (wide, narrow))
    theirs = probabilities(np.array(published))
    off, other = (float(np.abs(one - exact).mean()) for one in (own, theirs))
    assert off < 1.2 * other
    assert off < 5e-3
