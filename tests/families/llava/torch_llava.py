"""Tiny LLaVA models of PyTorch's transformers, which the parity tests take as the truth, and both sides' outputs.

PyTorch and transformers take seconds to import, so every function imports them itself.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from tests.families.full_pass import full_pass
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.llava.params import LAYOUTS
from xmflow_jax.weights.load import LoadedModel

# canonical beginning -> published beginning, of each layout by its name.
BEGINNINGS = {layout.name: layout.beginnings for layout in LAYOUTS}

# Key-value heads that make four query heads multi-head, grouped and multi-query attention.
HEAD_LAYOUTS = {"mha": 4, "gqa": 2, "mqa": 1}


class Prompts(NamedTuple):
    """A batch with as many images in every prompt.

    Attributes:
        tokens: [batch, position] word ids; the image token at image positions.
        pixels: [batch * images, height, width, 3] float32.
    """

    tokens: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class TextSizes:
    """Of the decoder, a Llama.

    Attributes:
        head_width: None: an even share of the width.
        tied: the head is the embedding.
    """

    vocabulary: int = 99
    width: int = 32
    mlp_width: int = 48
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    head_width: int | None = None
    tied: bool = False
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class VisionSizes:
    """Of the image encoder, a CLIP."""

    image_size: int = 28
    patch_size: int = 7
    width: int = 24
    mlp_width: int = 40
    layers: int = 3
    heads: int = 3
    activation: str = "quick_gelu"


def build_torch_llava(
    folder: Path, text: TextSizes = TextSizes(), vision: VisionSizes = VisionSizes(), seed: int = 0, **llava: Any
) -> tuple[Any, Path]:
    """A random `LlavaForConditionalGeneration` with eager attention in float32, and where it was saved.

    The image token is the last word of the vocabulary.

    Args:
        folder: where `save_pretrained` writes, in transformers' own layout.
        llava: further fields of transformers' `LlavaConfig`.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    torch.set_num_threads(1)
    config = LlavaConfig(
        vision_config=_published_vision(vision),
        text_config=_published_text(text),
        image_token_index=text.vocabulary - 1,
        **llava,
    )
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    _enliven(model, seed)
    model.save_pretrained(folder)
    return model, folder


def _published_vision(sizes: VisionSizes) -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        hidden_act=sizes.activation,
    )


def _published_text(sizes: TextSizes) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_width,
        rms_norm_eps=sizes.norm_eps,
        rope_parameters={"rope_theta": sizes.rope_theta, "rope_type": "default"},
        tie_word_embeddings=sizes.tied,
    )


def _enliven(model: Any, seed: int) -> None:
    """Weights under which activations keep their size, in place of the tiny ones of a fresh model."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                is_scale = "norm" in name and name.endswith("weight")
                values = (1 + 0.1 * values) if is_scale else 0.1 * values
            elif "embed_tokens" not in name:
                values = values / math.sqrt(math.prod(parameter.shape[1:]))
            parameter.copy_(values)


def rewrite_layout(source: Path, target: Path, layout: str, shards: int = 1) -> Path:
    """A copy, under another key layout, of a checkpoint that `build_torch_llava` wrote; tensors deal out in turn."""
    target.mkdir(parents=True)
    shutil.copyfile(source / "config.json", target / "config.json")
    tensors = {}
    for name, values in load_file(source / "model.safetensors").items():
        canonical = name
        for ours, saved in BEGINNINGS["v5-save"].items():
            if name.startswith(saved):
                canonical = ours + name.removeprefix(saved)
                break
        prefix = next(ours for ours in BEGINNINGS[layout] if canonical.startswith(ours))
        tensors[BEGINNINGS[layout][prefix] + canonical.removeprefix(prefix)] = values
    if shards == 1:
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        return target
    files = [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
    weight_map = {name: files[position % shards] for position, name in enumerate(sorted(tensors))}
    for file in files:
        members = {name: values for name, values in tensors.items() if weight_map[name] == file}
        save_file(members, target / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": weight_map}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


def make_prompts(config: LlavaConfig, *, batch: int = 2, images: int = 1, words: int = 6, seed: int = 0) -> Prompts:
    """Random words, each image's positions in one piece between them, and random pixels."""
    generator = np.random.default_rng(seed)

    def some_words(count: int) -> np.ndarray:
        # Never the image token, which is the last word.
        return generator.integers(0, config.text.vocabulary - 1, (batch, count))

    visual = np.full((batch, config.image_positions), config.image_token)
    pieces = [some_words(2)]
    for _ in range(images):
        pieces += [visual, some_words(1)]
    side = config.vision.image_size
    pixels = generator.standard_normal((batch * images, side, side, 3), dtype=np.float32)
    return Prompts(np.concatenate([*pieces, some_words(words)], axis=1), pixels)


def torch_logits(model: Any, prompts: Prompts) -> np.ndarray:
    """[batch, position, vocabulary] float32 logits of the PyTorch model, computed in the model's own type."""
    import torch

    pixels = torch.tensor(prompts.pixels.transpose(0, 3, 1, 2), dtype=model.dtype)
    with torch.no_grad():
        output = model(input_ids=torch.tensor(prompts.tokens), pixel_values=pixels)
    logits: np.ndarray = output.logits.float().numpy()
    return logits


def jax_logits(loaded: LoadedModel, prompts: Prompts) -> np.ndarray:
    """[batch, position, vocabulary] float32 logits of ours."""
    found = full_pass(loaded.net, jnp.asarray(prompts.tokens), jnp.asarray(prompts.pixels))
    return np.asarray(found.logits, np.float32)


def largest_difference(ours: Any, published: Any) -> float:
    """The largest absolute difference of two arrays of one shape."""
    ours, published = np.asarray(ours, np.float64), np.asarray(published, np.float64)
    assert ours.shape == published.shape
    return float(np.max(np.abs(ours - published)))
