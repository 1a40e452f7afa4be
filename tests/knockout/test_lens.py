"""The logit lens against PyTorch: what hooks see behind every block, times the output embedding, raw and normed."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from tests.families.llava.torch_llava import TextSizes, build_torch_llava, make_prompts
from tests.families.vision_encoder_decoder.torch_encoder_decoder import IMAGE, LAYERS, WORDS, build_encoder_decoder
from xmflow_jax.data.batch import Batch, StackInput
from xmflow_jax.data.place import plain_place, stack_places
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.knockout.fast.engine import encode, run_base
from xmflow_jax.knockout.lens import Lens, read_answer_states, read_lens
from xmflow_jax.weights.load import LoadedModel

# The words that are followed are other ones in each prompt.
FOLLOWED = np.array([[3, 17, 8], [40, 0, 29]], np.int32)
TOLERANCE = 1e-5


def published_lens(model: Any, blocks: Any, norm: Any, head: Any, inputs: dict[str, Any]) -> np.ndarray:
    """[batch, state, raw or normed, word] probabilities at the last position."""
    states: list[torch.Tensor] = []
    hooks = [blocks[0].register_forward_pre_hook(lambda block, given: states.append(given[0]))]
    for block in blocks:
        # Behind the block, because transformers' own last hidden state is normed already.
        hooks.append(
            block.register_forward_hook(
                lambda block, given, output: states.append(output[0] if isinstance(output, tuple) else output)
            )
        )
    with torch.inference_mode():
        model(**inputs)
        last = torch.stack([state[:, -1] for state in states], dim=1)
        logits = torch.stack([last, norm(last)], dim=2) @ head.T
        prob: np.ndarray = torch.softmax(logits, dim=-1).numpy()
    for hook in hooks:
        hook.remove()
    return prob


def our_lens(loaded: LoadedModel, tokens: np.ndarray, pixels: np.ndarray, rows: int, padding: int = 5) -> Lens:
    """From the suffix of `rows` rows that the base pass keeps, with padding behind the prompts."""
    length = np.full(len(tokens), tokens.shape[1], np.int32)
    padded = np.pad(tokens, ((0, 0), (0, padding))).astype(np.int32)
    places = stack_places([plain_place(tokens.shape[1])] * len(tokens), padded.shape[1])
    inputs = StackInput(padded, length, places.axes, places.delta, places.blocks, np.zeros(len(tokens), np.int32))
    batch = Batch((inputs,), pixels[:, None])
    features = encode(loaded.net, batch.pixels)
    base = run_base(loaded.net, batch, features, (length - rows,), rows=(rows,))
    states = read_answer_states(base, length)
    return jax.device_get(read_lens(loaded.net, states, FOLLOWED))


def assert_equal(ours: Lens, published: np.ndarray) -> None:
    # Otherwise it would not matter which state is read, or whether it is normed.
    assert min(np.abs(np.diff(published, axis=axis)).max() for axis in (0, 1, 2)) > 1000 * TOLERANCE
    followed = np.take_along_axis(published, FOLLOWED[:, None, None].astype(np.int64), axis=-1)
    np.testing.assert_allclose(ours.prob, followed, rtol=0, atol=TOLERANCE)
    top = np.sort(published, axis=-1)[..., : -ours.top_prob.shape[-1] - 1 : -1]
    np.testing.assert_allclose(ours.top_prob, top, rtol=0, atol=TOLERANCE)
    named = np.take_along_axis(published, ours.top_tokens.astype(np.int64), axis=-1)
    np.testing.assert_allclose(ours.top_prob, named, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_llava(tmp_path: Path, tied: bool) -> None:
    model, folder = build_torch_llava(tmp_path, TextSizes(tied=tied))
    prompts = make_prompts(read_checkpoint(folder).config)
    pixels = torch.tensor(prompts.pixels.transpose(0, 3, 1, 2))
    text = model.model.language_model
    inputs = {"input_ids": torch.tensor(prompts.tokens), "pixel_values": pixels}
    published = published_lens(model, text.layers, text.norm, model.lm_head.weight, inputs)
    assert published.shape == (2, 3 + 1, 2, 99)
    loaded = load_model(folder, "float32")
    assert_equal(our_lens(loaded, prompts.tokens, prompts.pixels, rows=1 if tied else 4), published)
    # As transformers gives it: its last state is normed, whatever it is called.
    with torch.inference_mode():
        told = model(**inputs, output_hidden_states=True)
        last = torch.softmax(told.hidden_states[-1][:, -1] @ model.lm_head.weight.T, dim=-1).numpy()
    np.testing.assert_allclose(published[:, -1, 1], last, rtol=0, atol=1e-6)
    np.testing.assert_allclose(published[:, -1, 1], torch.softmax(told.logits[:, -1], dim=-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_encoder_decoder(tmp_path: Path, tied: bool) -> None:
    model = build_encoder_decoder(tmp_path, encoder="vit", width=16, tied=tied)
    rng = np.random.default_rng(0)
    tokens, pixels = rng.integers(0, WORDS, (2, 7)), rng.normal(size=(2, IMAGE, IMAGE, 3)).astype(np.float32)
    inputs = {
        "pixel_values": torch.tensor(pixels.transpose(0, 3, 1, 2)),
        "decoder_input_ids": torch.tensor(tokens),
        "use_cache": False,
    }
    decoder = model.decoder.transformer
    published = published_lens(model, decoder.h, decoder.ln_f, model.decoder.lm_head.weight, inputs)
    assert published.shape == (2, LAYERS + 1, 2, WORDS)
    loaded = load_model(tmp_path, "float32")
    assert_equal(our_lens(loaded, tokens, pixels, rows=1 if tied else 4), published)


def test_a_vocabulary_smaller_than_the_list_of_words(tmp_path: Path) -> None:
    _, folder = build_torch_llava(tmp_path, TextSizes(layers=1))
    loaded = load_model(folder, "float32")
    states = np.ones((2, 2, 32), np.float32)
    assert read_lens(loaded.net, states, FOLLOWED, top=1000).top_tokens.shape == (2, 2, 2, 99)
