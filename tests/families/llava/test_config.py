"""config.json is understood in full or refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.weights.tiny_checkpoint import TINY, edit_config
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.llava.config import write_config as published_config
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.rotary import RotaryScaling

# As published for LLaVA-1.5-7B: sizes that equal a default are left out.
TERSE: dict[str, Any] = {
    "architectures": ["LlavaForConditionalGeneration"],
    "ignore_index": -100,
    "image_token_index": 32000,
    "model_type": "llava",
    "pad_token_id": 32001,
    "projector_hidden_act": "gelu",
    "text_config": {
        "_name_or_path": "lmsys/vicuna-7b-v1.5",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "rms_norm_eps": 1e-05,
        "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.36.0.dev0",
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "vocab_size": 32064,
}


def llava_config(directory: Path) -> LlavaConfig:
    """The configuration as the one reader of config.json gives it."""
    config = read_checkpoint(directory).config
    assert isinstance(config, LlavaConfig)
    return config


def write_config(directory: Path, content: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(content))
    return directory


def test_terse_file_of_the_hub(tmp_path: Path) -> None:
    assert llava_config(write_config(tmp_path, TERSE)) == LlavaConfig(
        vision=ClipVisionConfig(image_size=336, patch_size=14, width=1024, mlp_width=4096, layers=24, heads=16),
        text=LlamaConfig(
            vocabulary=32064, width=4096, mlp_width=11008, layers=32, heads=32, kv_heads=32, head_width=128
        ),
        image_token=32000,
    )


def test_configuration_as_transformers_saves_it(tmp_path: Path) -> None:
    from transformers import LlavaConfig as PublishedConfig

    PublishedConfig.from_dict(published_config(TINY, "float32")).save_pretrained(tmp_path)
    assert "rope_parameters" in json.loads((tmp_path / "config.json").read_text())["text_config"]
    assert llava_config(tmp_path) == TINY


@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True), (True, True), (True, None), (None, True)])
def test_either_flag_ties_the_head(tmp_path: Path, outer: bool | None, inner: bool | None) -> None:
    from transformers import LlavaConfig as PublishedConfig

    content = published_config(TINY, "float32")
    for part, flag in ((content, outer), (content["text_config"], inner)):
        part.pop("tie_word_embeddings")
        if flag is not None:
            part["tie_word_embeddings"] = flag
    assert llava_config(write_config(tmp_path, content)).text.tied
    assert PublishedConfig.from_dict(content).tie_word_embeddings


def set_in(part: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: (content[part] if part else content).update(fields)


REFUSED = {
    "model type": (set_in("", model_type="no_such"), "model_type is 'no_such'"),
    "no model type": (lambda content: content.pop("model_type"), "model_type is None"),
    "text type": (set_in("text_config", model_type="gemma"), "text_config.model_type is 'gemma'"),
    "vision type": (set_in("vision_config", model_type="dinov2"), "vision_config.model_type is 'dinov2'"),
    "SigLIP has no class token": (
        set_in("vision_config", model_type="siglip_vision_model"), "vision_feature_select_strategy is 'default'"
    ),
    "architecture": (set_in("", architectures=["LlavaLlamaForCausalLM"]), "LlavaLlamaForCausalLM"),
    "unknown field": (set_in("", mm_use_im_start_end=True), "mm_use_im_start_end = True"),
    "unknown text field": (set_in("text_config", qk_norm=True), "text_config.qk_norm = True"),
    "unknown vision field": (set_in("vision_config", use_rope=1), "vision_config.use_rope = 1"),
    "remote code": (set_in("", auto_map={"AutoModel": "m.M"}), "auto_map"),
    "quantized": (set_in("", quantization_config={"bits": 4}), "quantization_config"),
    "linear rope of no factor": (set_in("text_config", rope_scaling={"type": "linear", "factor": 0.0}), "factor"),
    "llama3 rope the wrong way round": (
        set_in(
            "text_config",
            rope_scaling={
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        ),
        "config.json",
    ),
    "rope settings of another kind": (
        set_in("text_config", rope_scaling={"rope_type": "linear", "factor": 2.0, "beta_fast": 32}), "beta_fast"
    ),
    "dynamic rope": (
        set_in("text_config", rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}),
        "'dynamic'",
    ),
    "incomplete rope": (set_in("text_config", rope_scaling={"rope_type": "llama3", "factor": 8.0}), "config.json"),
    "partial rope": (set_in("text_config", partial_rotary_factor=0.5), "partial_rotary_factor"),
    "two thetas": (set_in("text_config", rope_parameters={"rope_theta": 7.0}), "must agree"),
    "theta": (set_in("text_config", rope_theta=-1.0), "rope_theta is -1.0"),
    "attention bias": (set_in("text_config", attention_bias=True), "attention_bias is True"),
    "mlp bias": (set_in("text_config", mlp_bias=True), "mlp_bias is True"),
    "sliding window": (set_in("text_config", sliding_window=64), "sliding_window is 64"),
    "sliding Qwen2": (
        set_in("text_config", model_type="qwen2", use_sliding_window=True, max_window_layers=1),
        "use_sliding_window is True",
    ),
    "sliding layers": (
        set_in("text_config", model_type="qwen2", layer_types=["full_attention", "sliding_attention", "x"]),
        "layer_types",
    ),
    "Mistral's window": (set_in("text_config", model_type="mistral", sliding_window=0), "sliding_window is 0"),
    "activation": (set_in("text_config", hidden_act="relu"), "hidden_act is 'relu'"),
    "vision activation": (set_in("vision_config", hidden_act="gelu_fast"), "hidden_act is 'gelu_fast'"),
    "projector activation": (set_in("", projector_hidden_act="relu"), "projector_hidden_act is 'relu'"),
    "channels": (set_in("vision_config", num_channels=1), "num_channels is 1"),
    "rectangle": (set_in("vision_config", image_size=[28, 14]), "image_size is [28, 14]"),
    "large patch": (set_in("vision_config", patch_size=56), "patch_size is 56"),
    "several layers": (set_in("", vision_feature_layer=[-2, -1]), "vision_feature_layer is [-2, -1]"),
    "layer out of range": (set_in("", vision_feature_layer=-4), "vision_feature_layer is -4"),
    "strategy": (set_in("", vision_feature_select_strategy="cls"), "vision_feature_select_strategy"),
    "heads": (set_in("text_config", num_key_value_heads=3), "num_key_value_heads is 3"),
    "no heads": (set_in("text_config", num_attention_heads=0), "config.json"),
    "no layers": (set_in("text_config", num_hidden_layers=0), "num_hidden_layers is 0"),
    "text for number": (set_in("text_config", hidden_size="24"), "hidden_size"),
    "epsilon": (set_in("text_config", rms_norm_eps=0.0), "rms_norm_eps is 0.0"),
    "no object": (set_in("", text_config=3), "text_config is 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, case: str) -> None:
    edit, named = REFUSED[case]
    write_config(tmp_path, published_config(TINY, "float32"))
    edit_config(tmp_path, edit)
    with pytest.raises(CheckpointError) as refusal:
        llava_config(tmp_path)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "edit",
    [
        set_in("text_config", rope_scaling=None, pretraining_tp=2, sliding_window=None, use_cache=False),
        set_in("text_config", partial_rotary_factor=1.0, attention_dropout=0.1),
        set_in("text_config", rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}),
        set_in("", pad_token_id=3, quantization_config=None, image_seq_length=7),
    ],
)
def test_what_changes_nothing_is_accepted(tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    write_config(tmp_path, published_config(TINY, "float32"))
    edit_config(tmp_path, edit)
    assert llava_config(tmp_path) == TINY


LLAMA_3_1 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_scaling": RotaryScaling("linear", 2.0)}),
        (
            {"rope_scaling": LLAMA_3_1, "rope_theta": 5e5},
            {"rope_scaling": RotaryScaling("llama3", 8.0, 1.0, 4.0, 8192), "rope_theta": 5e5},
        ),
        (
            {"rope_parameters": {**LLAMA_3_1, "rope_theta": 1e4}},
            {"rope_scaling": RotaryScaling("llama3", 8.0, 1.0, 4.0, 8192)},
        ),
        # A window that the file does not mention is Mistral's default, and null is none.
        ({"model_type": "mistral"}, {"model_type": "mistral", "span": 4096}),
        ({"model_type": "mistral", "sliding_window": None}, {"model_type": "mistral"}),
        ({"model_type": "mistral", "sliding_window": 7}, {"model_type": "mistral", "span": 7}),
        (
            {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 7, "max_window_layers": 1},
            {"model_type": "qwen2", "qkv_bias": True},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_text_decoders_by_their_own_type(tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    write_config(tmp_path, published_config(TINY, "float32"))
    edit_config(tmp_path, set_in("text_config", **fields))
    config = replace(TINY, text=replace(TINY.text, **expected))
    assert llava_config(tmp_path) == config
    edit_config(tmp_path, lambda content: content.update(published_config(config, "float32")))
    assert llava_config(tmp_path) == config


@pytest.mark.parametrize(
    ("content", "named"), [(None, "is missing"), ("{", "cannot be read"), ("[]", "expected an object")]
)
def test_no_usable_file(tmp_path: Path, content: str | None, named: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=named):
        llava_config(tmp_path)
