"""Keys of config.json that no table names: copies agree, origin and tooling are passed over, the rest is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.errors import CheckpointError, OptionError
from xmflow_jax.families.checkpoint import Checkpoint, read_checkpoint
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import LLAVA, VISION_ENCODER_DECODER
from xmflow_jax.weights.key_kinds import why_no_computation

BOTH = pytest.mark.parametrize("family", [LLAVA, VISION_ENCODER_DECODER], ids=lambda family: str(family.model_type))
TEXT_PART = {LLAVA.model_type: "text_config", VISION_ENCODER_DECODER.model_type: "decoder"}
IMAGE_PART = {LLAVA.model_type: "vision_config", VISION_ENCODER_DECODER.model_type: "encoder"}


@pytest.fixture(name="read")
def fixture_read(tmp_path: Path) -> Callable[..., Checkpoint]:
    """The checkpoint of a family's tiny model whose config.json holds more keys, `part.key` or `key`."""

    def read(family: Family, vouch: tuple[str, ...] = (), **more: Any) -> Checkpoint:
        content = family.write_config(family.tiny, "float32")
        for name, value in more.items():
            part, _, key = name.rpartition(".")
            (content[part] if part else content)[key] = value
        (tmp_path / "config.json").write_text(json.dumps(content))
        return read_checkpoint(tmp_path, vouch)

    return read


def own_values(family: Family, part: str) -> dict[str, Any]:
    """A part's stated values."""
    return dict(family.write_config(family.tiny, "float32")[part])


@BOTH
def test_a_key_beside_the_parts_may_repeat_a_parts_value(read: Callable[..., Checkpoint], family: Family) -> None:
    """Every value that the text part states, and the image part's image size, which the text part does not have."""
    plain = family.write_config(family.tiny, "float32").keys()
    copies = {key: value for key, value in own_values(family, TEXT_PART[family.model_type]).items() if key not in plain}
    copies["image_size"] = own_values(family, IMAGE_PART[family.model_type])["image_size"]
    # Flags that the file has for the whole model, too.
    own = {"add_cross_attention", "is_decoder"}
    copies = {key: value for key, value in copies.items() if value is not None and key not in own}
    found = read(family, **copies)
    assert found.config == family.tiny
    for key in ("vocab_size", "image_size"):
        assert found.passed_over[key].startswith("a copy of ")


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads"])
@BOTH
def test_a_copy_that_differs_is_refused_and_names_both(
    read: Callable[..., Checkpoint], family: Family, key: str
) -> None:
    part = TEXT_PART[family.model_type]
    with pytest.raises(CheckpointError, match=rf"{key} is 7 and {part}\.{key} is \d+; they must agree.*--vouch {key}$"):
        read(family, **{key: 7})
    assert read(family, (key,), **{key: 7}).config == family.tiny
    assert read(family, (key,), **{key: 7}).vouched == {key: 7}


def test_a_copy_of_what_the_part_leaves_to_its_class(read: Callable[..., Checkpoint]) -> None:
    assert read(LLAVA, mlp_bias=False).passed_over == {"mlp_bias": "a copy of text_config.mlp_bias"}
    with pytest.raises(CheckpointError, match=r"mlp_bias is True and text_config\.mlp_bias is False; they must agree"):
        read(LLAVA, mlp_bias=True)


def test_another_name_of_a_parts_key(read: Callable[..., Checkpoint], tmp_path: Path) -> None:
    """GPT-2's class takes `hidden_size` for `n_embd`: read where it stands alone, compared where both do."""
    width = VISION_ENCODER_DECODER.tiny.text.width
    assert read(VISION_ENCODER_DECODER, **{"decoder.hidden_size": width}).config == VISION_ENCODER_DECODER.tiny
    with pytest.raises(CheckpointError, match=rf"decoder\.hidden_size is 8 and decoder\.n_embd is {width}; they must"):
        read(VISION_ENCODER_DECODER, **{"decoder.hidden_size": 8})
    content = VISION_ENCODER_DECODER.write_config(VISION_ENCODER_DECODER.tiny, "float32")
    content["decoder"]["hidden_size"] = content["decoder"].pop("n_embd")
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert read_checkpoint(tmp_path).config == VISION_ENCODER_DECODER.tiny


# Name, value: as found in published files, or of the same kind.
HARMLESS: list[tuple[str, Any]] = [
    ("unsloth_version", "2025.6.1"),
    ("unsloth_fixed", True),
    ("_attn_implementation", "flash_attention_2"),
    ("attn_implementation", {"text_config": "sdpa", "vision_config": None}),
    ("_attn_implementation_internal", "eager"),
    ("trl_version", "0.9.6"),
    ("axolotl_config_path", "recipe.yaml"),
    ("llava_next_version", "v1.6"),
    ("base_model_name_or_path", "lmsys/vicuna-7b-v1.5"),
    ("_copyright", "2024 Someone"),
    ("licence", "apache-2.0"),
    ("license_link", "https://example.org/licence"),
    ("notice", "Copyright (c) 2024 Someone. All rights reserved."),
    ("_about", "SPDX-License-Identifier: MIT"),
    ("author", ["A. Person", "B. Person"]),
    ("use_flash_attention_2", True),
    ("mm_projector_lr", 2e-5),
    ("freeze_vision_tower", True),
    ("attention_probs_dropout_prob", 0.1),
    ("drop_path_rate", 0.0),
    ("max_new_tokens", 64),
    ("cache_implementation", None),
    ("keys_to_ignore_at_inference", ["past_key_values"]),
    ("wandb_run_id", "x1"),
]

# Each looks like one of those above, and could change what is computed.
MATTERS: list[tuple[str, Any]] = [
    ("rope_version", "2.0"),
    ("attention_version", "1.1"),
    ("unsloth_version", {"bits": 4}),
    ("unsloth_quantization", "nf4"),
    ("_attn_implementation", 3),
    ("attn_softcap", 30.0),
    ("attn_scale", None),
    ("licensed_heads", 4),
    ("use_flash_attention_2", "alibi"),
    ("freeze_vision_tower", "vision_tower_b"),
    ("logit_scale", 2),
    ("quantization", {"group_size": 64, "bits": 4}),
    ("auto_map", {"AutoModel": "m.M"}),
    ("norm_version", "1.0"),
    ("notice", "use the second head"),
    ("layer_version", "1.0"),
    ("peft_type", "LORA"),
    ("mm_projector_type", "mlp2x_gelu"),
]


@pytest.mark.parametrize(("key", "value"), HARMLESS)
def test_origin_and_tooling_are_passed_over_with_a_reason(key: str, value: Any) -> None:
    assert why_no_computation(key, value)


@pytest.mark.parametrize(("key", "value"), MATTERS)
def test_what_could_matter_is_no_origin_or_tooling(key: str, value: Any) -> None:
    assert why_no_computation(key, value) is None


@BOTH
def test_every_part_passes_such_keys_over(read: Callable[..., Checkpoint], family: Family) -> None:
    parts = ("", f"{TEXT_PART[family.model_type]}.", f"{IMAGE_PART[family.model_type]}.")
    more = {f"{part}{key}": value for part in parts for key, value in HARMLESS}
    found = read(family, **more)
    assert found.config == family.tiny
    assert found.passed_over["unsloth_version"] == "the version of a tool"
    assert found.passed_over[f"{IMAGE_PART[family.model_type]}._copyright"] == "words about rights"


@BOTH
def test_what_could_matter_is_refused_in_every_part_until_someone_vouches(
    read: Callable[..., Checkpoint], family: Family
) -> None:
    for part in ("", TEXT_PART[family.model_type], IMAGE_PART[family.model_type]):
        name = f"{part}.logit_scale" if part else "logit_scale"
        told = rf"1 field\(s\) not understood: {re.escape(name)} = 2; .*--vouch {re.escape(name)}$"
        with pytest.raises(CheckpointError, match=told):
            read(family, unsloth_fixed=True, **{name: 2})
        found = read(family, (name,), unsloth_fixed=True, **{name: 2})
        assert (found.config, found.vouched) == (family.tiny, {name: 2})
        assert list(found.passed_over) == ["unsloth_fixed"]


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("logit_scale", "--vouch logit_scale: in .* this key is not there"),
        ("text_config.hidden_size", r"--vouch text_config\.hidden_size: in .* is understood as it is"),
        ("quantization_config", r"quantization_config is \{'bits': 4\}; supported"),
        ("text_config", "--vouch text_config: in .* is understood as it is"),
    ],
)
def test_what_is_understood_cannot_be_vouched_for(read: Callable[..., Checkpoint], key: str, complaint: str) -> None:
    more = {"quantization_config": {"bits": 4}} if key == "quantization_config" else {}
    with pytest.raises((OptionError, CheckpointError), match=complaint):
        read(LLAVA, (key,), **more)


def test_a_whole_part_that_is_not_known_is_refused_or_vouched_for(read: Callable[..., Checkpoint]) -> None:
    audio = {"hidden_size": 24, "layers": [1] * 200}
    with pytest.raises(
        CheckpointError, match=r"1 field\(s\) not understood: audio_config = \{'hidden_size': 24, .{,60};"
    ):
        read(LLAVA, audio_config=audio)
    assert read(LLAVA, ("audio_config",), audio_config=audio).config == LLAVA.tiny
