"""From the question to the image and back: a PaliGemma whose weights are set by hand, so that what flows is known.

The question's word is one of two. In a model that goes through the image, layer 0 writes it into the image's
positions, and the last position reads it off them in layer 1; in one that does not, the last position reads the
question itself in layer 1. Where nothing has arrived, a third word is the answer.
"""

from dataclasses import replace
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.families.contract import Words, make_prompt
from tests.knockout.tiny_study import TinyPrompt, arrays, run_plain
from tests.random_network import empty_arrays
from xmflow_jax.data import roles
from xmflow_jax.families.paligemma.modeling import PaliGemma, PaliGemmaConfig
from xmflow_jax.families.registry import PALIGEMMA
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, block
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.nn.gemma import GemmaConfig
from xmflow_jax.nn.network import Network

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# Channels of the hidden state: what a position is, what the question's word says, and what others read of it.
ONE, IMAGE, QUESTION, LAST, REST, SAID, READ, ANSWER = range(8)
WIDTH, GAIN = 16, 400.0
# Words, and answers to them.
FIRST, SECOND, BEGIN, END, YES, NO, NONE = range(1, 8)
# Pairs of an attention head that rotary positions turn by next to nothing.
SEEKING, RESTING = 6, 7
CONFIG: Final = PaliGemmaConfig(
    PALIGEMMA.tiny.vision,
    GemmaConfig(
        40,
        WIDTH,
        mlp_width=8,
        layers=3,
        heads=1,
        kv_heads=1,
        head_width=16,
        query_scalar=16,
        rope_theta=1e16,
        tied=False,
    ),
    image_token=40,
)


def network(through_the_image: bool) -> Network:
    """All weights are zero but those that the flow needs."""
    graphdef, state, own = empty_arrays(lambda: PaliGemma(CONFIG, rngs=nnx.Rngs(0)))
    own["multi_modal_projector", "linear", "bias"][[ONE, IMAGE]] = 1.0
    words: Any = own["language_model", "embed_tokens", "embedding"]
    for word, channels in {FIRST: [QUESTION], SECOND: [QUESTION], BEGIN: [REST], END: [LAST]}.items():
        words[word, [ONE, *channels]] = 0.25  # times the root of the width is 1
    words[FIRST, SAID], words[SECOND, SAID] = 0.25, -0.25
    if through_the_image:
        moves = [(0, IMAGE, QUESTION, SAID, READ), (1, LAST, IMAGE, READ, ANSWER)]
    else:
        moves = [(1, LAST, QUESTION, SAID, ANSWER)]
    for layer, reader, source, said, written in moves:
        query, key, value, out = (
            own["language_model", "layers", "self_attn", f"{name}_proj", "kernel"][layer] for name in "qkvo"
        )
        query[reader, SEEKING], query[ONE, RESTING] = 4 * GAIN, GAIN
        key[source, SEEKING], key[REST, RESTING] = 1.0, 1.0
        value[said, 0], out[0, written] = 1.0, 1.0
    head: Any = own["language_model", "lm_head", "kernel"]
    head[ANSWER, YES], head[ANSWER, NO], head[ONE, NONE] = 1.0, -1.0, 0.1
    filled = [(path, leaf.replace(jnp.asarray(own[path]))) for path, leaf in nnx.to_flat_state(state)]
    return Network(graphdef, nnx.from_flat_state(filled))


def prompt(word: int) -> TinyPrompt:
    """The image, a beginning, the question's word, a line end."""
    made = make_prompt(PALIGEMMA, 0, Words(0, 3, 1))
    tokens = made.token_ids.copy()
    tokens[4:] = (BEGIN, word, word, END)
    own = {**made.roles, roles.QUESTION: tokens == word}
    return replace(made, token_ids=tokens, roles=own)


@pytest.mark.parametrize("through_the_image", [True, False])
def test_the_question_reaches_the_image_where_the_model_needs_it(through_the_image: bool) -> None:
    net, prompts = network(through_the_image), [prompt(FIRST), prompt(SECOND)]
    pathways = [Pathway("Question", "Image"), Pathway("Image", "Last"), Pathway("Question", "Last")]
    knockouts = [NOTHING_BLOCKED, *(block(pathway, [layer]) for pathway in pathways for layer in range(3))]
    study = build_study(knockouts, PALIGEMMA.anatomy(CONFIG))
    batch, positions = arrays(prompts, study)
    fast = sweep_fast(net, batch, positions, study).knockout
    plain = run_plain(net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-5)
    for own, answer in zip(np.asarray(fast), (YES, NO), strict=True):
        base, *others = own.argmax(-1).tolist()
        assert base == answer
        to_image, image_to_last, question_to_last = (others[start : start + 3] for start in (0, 3, 6))
        untouched, second = [answer] * 3, [answer, NONE, answer]
        if through_the_image:
            assert to_image == [NONE, answer, answer]
            assert (image_to_last, question_to_last) == (second, untouched)
        else:
            assert (to_image, image_to_last) == (untouched, untouched)
            assert question_to_last == second
            # Not a little either.
            np.testing.assert_array_equal(own[1:7], np.broadcast_to(own[0], own[1:7].shape))
