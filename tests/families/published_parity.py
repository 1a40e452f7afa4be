"""What a family whose prompts see more than causal attention lets them is compared with PyTorch by: transformers' model
in eager float32, clean and under explicit masks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from tests.families.full_pass import full_pass
from tests.families.parity import PROBABILITY, check_every_layer, check_knockouts, load_pair, probabilities
from tests.families.torch_reference import Published
from tests.knockout.tiny_study import TinyPrompt, arrays
from xmflow_jax.families.family import Family
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout, block
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.weights.load import LoadedModel

BOUND: Final = PROBABILITY
STEPS: Final = 8


def load_both(
    family: Family, config: Any, class_name: str, token_types: Callable[[np.ndarray, int], np.ndarray], dtype: str
) -> tuple[LoadedModel, Published]:
    """The same random checkpoint here and in PyTorch."""
    loaded, model = load_pair(family, config, class_name, dtype)
    return loaded, Published(model, token_types)


def torch_pixels(prompt: TinyPrompt) -> Any:
    import torch

    return torch.tensor(prompt.pixels.transpose(0, 3, 1, 2))


def check_states(loaded: LoadedModel, published: Published, prompt: TinyPrompt) -> None:
    """The images' features, every layer's input and every logit."""
    theirs = published.run(prompt, NOTHING_BLOCKED, output_hidden_states=True)
    model: Any = loaded.net.module()
    features = published.model.get_image_features(torch_pixels(prompt)).pooler_output.detach().numpy()
    own_features = model.visual(jnp.asarray(prompt.pixels)[None])[0].reshape(features.shape)
    np.testing.assert_allclose(own_features, features, rtol=0, atol=BOUND * np.abs(features).max())
    assert prompt.place.blocks is not None
    own = full_pass(
        loaded.net,
        jnp.asarray(prompt.token_ids[None]),
        jnp.asarray(prompt.pixels),
        jnp.asarray(prompt.place.axes[None]),
        jnp.asarray(prompt.place.blocks[None]),
    )
    assert len(own.inputs) == loaded.anatomy.main.layers
    check_every_layer(own, theirs)


def check_pathways(
    loaded: LoadedModel, published: Published, prompts: Sequence[TinyPrompt], pathways: Sequence[Pathway]
) -> np.ndarray:
    """Every pathway in every layer, and in all of them, in both engines.

    Returns:
        The largest change of a probability [pathway, layer]; of all layers together last.
    """
    layers = range(loaded.anatomy.main.layers)
    knockouts = [block(pathway, own) for pathway in pathways for own in (*([layer] for layer in layers), layers)]
    references = [partial(published.logits, prompt) for prompt in prompts]
    effects = check_knockouts(loaded, prompts, knockouts, references).changes().max((0, 2))
    found: np.ndarray = effects.reshape(len(pathways), len(layers) + 1)
    return found


def check_answers(
    loaded: LoadedModel, published: Published, prompts: Sequence[TinyPrompt], knockouts: Sequence[Knockout]
) -> None:
    """Greedy answers of several tokens under knockout, in both engines."""
    knockouts = [NOTHING_BLOCKED, *knockouts]
    expected = [[published.answer(prompt, one, STEPS) for one in knockouts] for prompt in prompts]
    study = build_study(knockouts, loaded.anatomy)
    for engine in ("fast", "plain"):
        found = answer_batch(
            loaded.net, prompts, Request(study, (10**6,), STEPS, engine), lambda tokens, _: np.ones(len(tokens), bool)
        )
        np.testing.assert_array_equal(found.tokens, expected)
    changed = (np.array(expected) != np.array(expected)[:, :1]).any(2)
    assert 0.1 < changed.mean() < 1


def check_generate(published: Published, prompt: TinyPrompt) -> None:
    """Token types and positions of generated tokens are those of transformers' own loop, with its cache."""
    import torch

    length = len(prompt.token_ids)
    with torch.inference_mode():
        tokens = published.model.generate(
            input_ids=torch.tensor(prompt.token_ids[None].astype(np.int64)),
            attention_mask=torch.ones((1, length), dtype=torch.long),
            pixel_values=torch_pixels(prompt),
            token_type_ids=torch.tensor(published.token_types(prompt.token_ids, 0)[None].astype(np.int64)),
            max_new_tokens=STEPS,
            do_sample=False,
            eos_token_id=None,
        )
    assert tokens[0, length:].tolist() == published.answer(prompt, NOTHING_BLOCKED, STEPS)


def check_bfloat16(wide: LoadedModel, narrow: LoadedModel, prompts: Sequence[TinyPrompt]) -> None:
    """Probabilities within 2e-2 of float32's."""
    assert {leaf.dtype.name for leaf in jax.tree.leaves(narrow.state)} == {"bfloat16"}
    knockouts = [NOTHING_BLOCKED, *(block(Pathway(source, "Last"), [1]) for source in ("Image", "Question"))]
    study = build_study(knockouts, wide.anatomy)
    batch, positions = arrays(prompts, study)
    one, other = (sweep_fast(loaded.net, batch, positions, study).knockout for loaded in (wide, narrow))
    np.testing.assert_allclose(probabilities(other), probabilities(one), rtol=0, atol=2e-2)
