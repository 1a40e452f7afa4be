"""Vision encoder-decoders against PyTorch: transformers, eager attention, float32, clean and under knockout."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from tests.families.full_pass import full_pass
from tests.families.parity import OF_LAYERS, OF_LOGITS, OF_PROBABILITIES, assert_close
from tests.families.vision_encoder_decoder.torch_encoder_decoder import (
    HEADS,
    IMAGE,
    LAYERS,
    WORDS,
    build_encoder_decoder,
)
from tests.knockout.tiny_study import TinyPrompt, arrays, run_plain
from tests.weights.tiny_checkpoint import edit_config
from xmflow_jax.data import roles
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.knockout.actions import block
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import SINGLE
from xmflow_jax.nn.anatomy import CROSS
from xmflow_jax.weights.load import LoadedModel

CASES = [("clip", 16, True), ("vit", 24, True)]
MORE = [("clip", 24, True), ("vit", 16, False)]
LENGTH = 7


@pytest.fixture(
    name="pair",
    scope="module",
    params=[*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in MORE)],
    ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}",
)
def fixture_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, LoadedModel]:
    """PyTorch's model, and ours loaded from what it saved."""
    folder = tmp_path_factory.mktemp("encoder-decoder")
    encoder, width, tied = request.param
    return build_encoder_decoder(folder, encoder=encoder, width=width, tied=tied), load_model(folder, "float32")


def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, WORDS, (2, LENGTH)), rng.normal(size=(2, IMAGE, IMAGE, 3)).astype(np.float32)


def published(model: Any, tokens: np.ndarray, pixels: np.ndarray, **options: Any) -> Any:
    with torch.inference_mode():
        return model(
            pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2)),
            decoder_input_ids=torch.tensor(tokens.astype(np.int64)),
            use_cache=False,
            **options,
        )


def test_every_layer_and_the_logits(pair: tuple[Any, LoadedModel]) -> None:
    torch_model, loaded = pair
    tokens, images = inputs()
    told, pixels = published(torch_model, tokens, images, output_hidden_states=True), jnp.asarray(images)
    model = nnx.merge(loaded.graphdef, loaded.state)
    states = model.vision_tower.output(pixels)
    assert_close(states, told.encoder_last_hidden_state.numpy(), 1e-5, "encoder", OF_LAYERS)
    collected, _, normed, logits = full_pass(loaded.net, jnp.asarray(tokens), pixels)
    for layer in range(LAYERS):
        expected = told.decoder_hidden_states[layer].numpy()
        assert_close(collected[layer], expected, 1e-5, f"layer {layer}", OF_LAYERS)
    # transformers puts the final norm on its last hidden state.
    assert_close(normed, told.decoder_hidden_states[LAYERS].numpy(), 1e-5, "normed", OF_LAYERS)
    assert_close(logits, told.logits.numpy(), 1e-4, "logits", OF_LOGITS)


def test_scale_of_the_models_width_and_no_class_token(tmp_path: Path) -> None:
    """The two keys of our own; PyTorch's queries are scaled, and its decoder is given the patches alone."""
    torch_model = build_encoder_decoder(tmp_path, width=16)
    edit_config(tmp_path, lambda config: config.update(cross_attention_scale="model_width", keep_class_token=False))
    loaded = load_model(tmp_path, "float32")
    tokens, pixels = inputs()
    with torch.inference_mode():
        states = torch_model.encoder(torch.tensor(pixels.transpose(0, 3, 1, 2))).last_hidden_state
    patches = (states[:, 1:],)
    as_published = published(torch_model, tokens, pixels, encoder_outputs=patches).logits[:, -1].numpy()
    width = torch_model.decoder.config.n_embd
    for layer in torch_model.decoder.transformer.h:
        # PyTorch divides by the root of the head's width.
        layer.crossattention.q_attn.register_forward_hook(lambda module, given, output: output * HEADS**-0.5)
    told = published(torch_model, tokens, pixels, encoder_outputs=patches, output_hidden_states=True)
    model = nnx.merge(loaded.graphdef, loaded.state)
    features = model.visual(jnp.asarray(pixels)[:, None])
    assert features.shape == (2, model.config.image_positions, width) == (2, 4, width)
    collected, _, _, logits = full_pass(loaded.net, jnp.asarray(tokens), jnp.asarray(pixels))
    for layer in range(LAYERS):
        np.testing.assert_allclose(collected[layer], told.decoder_hidden_states[layer].numpy(), rtol=0, atol=1e-5)
    logits = logits[:, -1]
    np.testing.assert_allclose(logits, told.logits[:, -1].numpy(), rtol=0, atol=1e-4)
    assert np.abs(np.asarray(logits) - as_published).max() > 1e-2


def prompts() -> list[TinyPrompt]:
    tokens, pixels = inputs()
    mask = {role: np.zeros(5 if role in roles.IMAGE_ROLES else LENGTH, bool) for role in roles.ROLES}
    mask[roles.IMAGE][:] = True
    mask[roles.IMAGE_CENTRAL_OBJECT][2] = True
    mask[roles.QUESTION][1:5] = True
    mask[roles.LAST][-1] = True
    mask[roles.ALL][:] = True
    return [TinyPrompt(row.astype(np.int32), image[None], mask) for row, image in zip(tokens, pixels, strict=True)]


def torch_knockout(model: Any, layer: int, heads: list[int], rows: list[int], source: list[int]) -> np.ndarray:
    """Probabilities with, in one layer, some heads' cross-attention weights of some rows to some sources blocked."""
    attention = model.decoder.transformer.h[layer].crossattention
    tokens, pixels = inputs()
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, given, output: kept.__setitem__(name, output)

    def replace(module: Any, given: Any) -> Any:
        """What enters the output projection, computed anew from the kept projections."""
        query, key_value = kept["q"], kept["kv"]
        key, value = key_value.chunk(2, dim=-1)
        by_head = [x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value)]
        logits = by_head[0] @ by_head[1].transpose(-1, -2) / by_head[0].shape[-1] ** 0.5
        blocked = torch.zeros_like(logits, dtype=torch.bool)
        for head in heads:
            for row in rows:
                blocked[:, head, row, source] = True
        weights = torch.softmax(logits.masked_fill(blocked, -torch.inf), -1)
        # A row with nothing left is a weighted sum of zero.
        weights = torch.where(blocked.all(-1, keepdim=True), torch.zeros_like(weights), weights)
        return ((weights @ by_head[2]).transpose(1, 2).flatten(-2),)

    handles = [
        attention.q_attn.register_forward_hook(keep("q")),
        attention.c_attn.register_forward_hook(keep("kv")),
        attention.c_proj.register_forward_pre_hook(replace),
    ]
    try:
        logits = published(model, tokens, pixels).logits[:, -1]
    finally:
        for handle in handles:
            handle.remove()
    return torch.softmax(logits, -1).numpy()


def test_under_knockout_of_every_layer(pair: tuple[Any, LoadedModel]) -> None:
    """The user's definition (all heads of a layer zero), single heads, and single patches, in both engines."""
    torch_model, loaded = pair
    everything, question = Pathway("Image", "All"), Pathway("Image Central Object", "Question")
    rows = pathway_study([(everything, SINGLE), (question, SINGLE)], loaded.anatomy, 1)
    heads = [block(everything, [layer], heads=[1, 3], site=CROSS) for layer in range(LAYERS)]
    study = build_study([*(row.knockout for row in rows), *heads], loaded.anatomy)
    batch, positions = arrays(prompts(), study)
    swept = sweep_fast(loaded.net, batch, positions, study).knockout
    plain = run_plain(loaded.net, batch, positions, study.switches).swapaxes(0, 1)
    every = list(range(LENGTH))
    for layer in range(LAYERS):
        expected = {
            layer: torch_knockout(torch_model, layer, list(range(HEADS)), every, [0, 1, 2, 3, 4]),
            LAYERS + layer: torch_knockout(torch_model, layer, list(range(HEADS)), [1, 2, 3, 4], [2]),
            2 * LAYERS + layer: torch_knockout(torch_model, layer, [1, 3], every, [0, 1, 2, 3, 4]),
        }
        for column, probabilities in expected.items():
            for logits in (swept, plain):
                ours = np.asarray(jax.nn.softmax(logits[:, column]))
                assert_close(ours, probabilities, 1e-5, "probabilities", OF_PROBABILITIES)
                np.testing.assert_array_equal(ours.argmax(-1), probabilities.argmax(-1))
    base = torch.softmax(published(torch_model, *inputs()).logits[:, -1], -1).numpy()
    assert np.abs(expected[LAYERS - 1] - base).max() > 1e-3
