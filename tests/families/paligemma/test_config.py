"""config.json of PaliGemma: the terse files that are published, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.families.variants import PALIGEMMA_2
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.registry import PALIGEMMA

PATH = Path("config.json")
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "num_image_tokens": 256,
    "patch_size": 14,
    "projection_dim": 2048,
    "projector_hidden_act": "gelu_fast",
    "vision_use_head": False,
}
WHOLE = {"model_type": "paligemma", "image_token_index": 257152, "_vocab_size": 257152, "bos_token_id": 2}
# With the keys of the published 3b-mix-224 files of both.
FIRST = {
    **WHOLE,
    "hidden_size": 2048,
    "projection_dim": 2048,
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "model_type": "gemma",
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_image_tokens": 256,
        "num_key_value_heads": 1,
        "vocab_size": 257216,
    },
    "vision_config": VISION,
}
SECOND = {
    **WHOLE,
    "hidden_size": 2048,
    "projection_dim": 2304,
    "text_config": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "model_type": "gemma2",
        "num_hidden_layers": 26,
        "num_image_tokens": 256,
        "num_key_value_heads": 4,
        "vocab_size": 257216,
    },
    "vision_config": {**VISION, "image_size": 448, "projection_dim": 2304},
}


def test_the_first_ones_file() -> None:
    config = PALIGEMMA.read_config(PATH, FIRST)
    text, vision = config.text, config.vision
    assert (text.width, text.layers, text.heads, text.kv_heads, text.head_width) == (2048, 18, 8, 1, 256)
    assert (text.query_scalar, text.norm_eps, text.rope_theta, text.tied) == (256, 1e-6, 1e4, True)
    assert (text.sliding, text.span, text.softcap, text.final_softcap, text.outer_norms) == (
        (),
        None,
        None,
        None,
        False,
    )
    assert (vision.image_size, vision.grid, vision.final_norm) == (224, 16, True)
    assert vision.activation == "gelu_pytorch_tanh"
    assert config.image_token == 257152
    assert PALIGEMMA.image_layout(config, (640, 480)).positions == 256


def test_the_second_ones_file() -> None:
    config = PALIGEMMA.read_config(PATH, SECOND)
    text = config.text
    assert (text.softcap, text.final_softcap, text.span, text.query_scalar) == (50.0, 30.0, 4096, 256)
    assert text.sliding == (True, False) * 13
    assert text.outer_norms
    assert not text.head_norms
    assert PALIGEMMA.image_layout(config, (640, 480)).positions == 1024


def test_gelu_of_gemmas_first_files_means_the_tanh_form() -> None:
    told = {**FIRST, "text_config": {**FIRST["text_config"], "hidden_act": "gelu", "hidden_activation": None}}
    assert PALIGEMMA.read_config(PATH, told).text.activation == "gelu_pytorch_tanh"


def text(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["text_config"].update(fields)


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another decoder": (text(model_type="llama"), "text_config.model_type is 'llama'; supported: 'gemma', 'gemma2'"),
    "another tower": (
        lambda content: content["vision_config"].update(model_type="clip_vision_model"),
        "vision_config.model_type is 'clip_vision_model'; supported: 'siglip_vision_model'",
    ),
    "a causal prompt": (text(use_bidirectional_attention=False), "supported: None or True"),
    "another projector": (
        lambda content: content.update(projection_dim=5),
        "projection_dim is 5; it must be text_config.hidden_size, 24",
    ),
    "unknown layers": (text(layer_types=["sliding_attention", "chunked_attention"] * 2), "for each of 4 layers"),
    "too few layers": (text(layer_types=["full_attention"]), "the number of `layer_types`"),
    "no window": (text(sliding_window=None), "sliding_window is None; supported: an integer from 1 up"),
    "heads that do not divide": (text(num_key_value_heads=3), "num_key_value_heads is 3; it must divide"),
    "biases": (text(attention_bias=True), "attention_bias is True; supported: False"),
    "scaled positions": (
        text(rope_scaling={"rope_type": "yarn", "factor": 2.0}),
        "rotary type is 'yarn'; supported: 'default'",
    ),
    "an activation that its class does not read": (text(hidden_act="silu"), "hidden_act is 'silu'"),
    "no bound": (text(attn_logit_softcapping=0.0), "attn_logit_softcapping is 0.0; supported: a positive number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_computed_is_refused(case: str) -> None:
    edit, line = REFUSED[case]
    content = PALIGEMMA.write_config(PALIGEMMA_2, "float32")
    edit(content)
    with pytest.raises(CheckpointError) as refused:
        PALIGEMMA.read_config(PATH, content)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_without_bounds_and_windows_is_read() -> None:
    content = PALIGEMMA.write_config(PALIGEMMA_2, "float32")
    text(attn_logit_softcapping=None, final_logit_softcapping=None, layer_types=["full_attention"] * 4)(content)
    own = PALIGEMMA.read_config(PATH, content).text
    assert (own.softcap, own.final_softcap, own.sliding, own.span) == (None, None, (), None)
