"""config.json of Gemma 3: the terse files that are published, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.registry import GEMMA_3
from xmflow_jax.nn.rotary import RotaryScaling

PATH = Path("config.json")
# With the keys of the published 4b-it file.
FOUR: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def test_the_published_file() -> None:
    config = GEMMA_3.read_config(PATH, FOUR)
    text = config.text
    assert (text.vocabulary, text.heads, text.kv_heads, text.head_width, text.query_scalar) == (262208, 8, 4, 256, 256)
    assert (text.span, text.strict, text.outer_norms, text.head_norms, text.tied) == (1024, True, True, True, True)
    assert [layer for layer, slides in enumerate(text.sliding) if not slides] == [5, 11, 17, 23, 29]
    assert (text.rope_theta, text.rope_scaling, text.sliding_theta) == (1e6, RotaryScaling("linear", 8.0), 1e4)
    assert (text.softcap, text.final_softcap) == (None, None)
    assert (config.side, config.image_token, config.begin_token, config.end_token) == (16, 262144, 255999, 256000)
    layout = GEMMA_3.image_layout(config, (640, 480))
    assert (layout.positions, len(layout.tokens), layout.side) == (256, 258, 56)


def test_transformers_own_saved_file() -> None:
    """Rotary settings by kind of layer, and the kind of each layer."""
    text = {key: value for key, value in FOUR["text_config"].items() if key != "rope_scaling"}
    parameters = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    kinds = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(34)]
    saved = {**text, "rope_parameters": parameters, "layer_types": kinds, "_sliding_window_pattern": 6}
    told = {**FOUR, "text_config": {**saved, "use_bidirectional_attention": False, "final_logit_softcapping": None}}
    assert GEMMA_3.read_config(PATH, told) == GEMMA_3.read_config(PATH, FOUR)


def text(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["text_config"].update(fields)


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another decoder": (text(model_type="gemma2"), "text_config.model_type is 'gemma2'; supported: 'gemma3_text'"),
    "bounds": (text(attn_logit_softcapping=50.0), "attn_logit_softcapping is 50.0; supported: None"),
    "words that see each other": (text(use_bidirectional_attention=True), "supported: None or False"),
    "positions that are no square": (
        lambda content: content.update(mm_tokens_per_image=5),
        "mm_tokens_per_image is 5; it must be the square of a number that divides the 4 patches along a side",
    ),
    "positions that do not divide the patches": (
        lambda content: content.update(mm_tokens_per_image=9),
        "mm_tokens_per_image is 9; it must be the square",
    ),
    "more positions than patches": (
        lambda content: content.update(mm_tokens_per_image=25),
        "mm_tokens_per_image is 25; supported: an integer from 1 to 16",
    ),
    "sliding layers that are scaled": (
        text(rope_parameters={"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
        "rotary type of sliding_attention is 'linear'; supported: 'default'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_computed_is_refused(case: str) -> None:
    edit, line = REFUSED[case]
    content = GEMMA_3.write_config(GEMMA_3.tiny, "float32")
    edit(content)
    with pytest.raises(CheckpointError) as refused:
        GEMMA_3.read_config(PATH, content)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_decoder_without_images_is_refused() -> None:
    from xmflow_jax.families.registry import find_family

    with pytest.raises(CheckpointError, match="model_type is 'gemma3_text'; supported: "):
        find_family("gemma3_text", PATH)
