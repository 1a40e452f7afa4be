"""What Qwen3-VL has beside the other Qwen-VL models: a resampled table, interleaved axes, its config.json, its chat."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from xmflow_jax.data.merged_patches import TABLE_READS, TABLE_SHARES, resample_table
from xmflow_jax.data.templates import IMAGE_PLACEHOLDER, NAMED_TEMPLATES
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.registry import QWEN3_VL
from xmflow_jax.nn.rotary import rotary_by_axis

PATH = Path("config.json")
# With the keys and sizes that public material tells of the 8B's.
EIGHT: dict[str, Any] = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "image_token_id": 151655,
    "model_type": "qwen3_vl",
    "text_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "dtype": "bfloat16",
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 12288,
        "max_position_embeddings": 262144,
        "model_type": "qwen3_vl_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5000000,
        "use_cache": True,
        "vocab_size": 151936,
    },
    "tie_word_embeddings": False,
    "transformers_version": "4.57.0.dev0",
    "video_token_id": 151656,
    "vision_config": {
        "deepstack_visual_indexes": [8, 16, 24],
        "depth": 27,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": 4304,
        "model_type": "qwen3_vl",
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
}


@pytest.mark.parametrize("grids", [[(8, 12)], [(2, 2)], [(4, 4), (10, 6)], [(96, 96), (48, 2)]], ids=str)
@pytest.mark.parametrize("side", [2, 5, 48])
def test_the_table_is_resampled_as_transformers_does(grids: list[tuple[int, int]], side: int) -> None:
    import torch
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights

    told = torch.tensor([[1, *grid] for grid in grids])
    reads, shares = get_vision_interpolation_indices_and_weights(
        told, num_grid_per_side=side, align_corners=True, spatial_merge_size=2
    )
    found = resample_table(grids, 2, side)
    np.testing.assert_array_equal(found[TABLE_READS], reads.numpy())
    np.testing.assert_allclose(found[TABLE_SHARES], shares.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[TABLE_SHARES].sum(-1), 1, rtol=0, atol=1e-6)


def test_the_corners_of_the_table_stand_at_the_corners_of_the_picture() -> None:
    found = resample_table([(6, 10)], 2, 48)
    first, last = found[TABLE_READS][0, found[TABLE_SHARES][0].argmax()], found[TABLE_READS][-1]
    assert first == 0
    assert (last[found[TABLE_SHARES][-1] > 0] == 48**2 - 1).all()


def test_axes_take_turns_until_each_has_its_own() -> None:
    """Only one axis moves at a time; the angles that follow it are its frequencies."""
    sections, width = (5, 3, 2), 20
    turning = []
    for axis in range(3):
        ids = np.zeros((3, 1), np.int32)
        ids[axis] = 1
        _, sines = rotary_by_axis(jnp.asarray(ids), sections, width, 100.0, interleaved=True)
        turning.append(np.flatnonzero(np.asarray(sines)[0]).tolist())
    assert turning == [[0, 3, 6, 8, 9], [1, 4, 7], [2, 5]]


def test_the_published_file() -> None:
    config: Any = QWEN3_VL.read_config(PATH, EIGHT)
    vision, text = config.vision, config.text
    assert (vision.patch_size, vision.table, vision.deep_layers, vision.gated) == (16, 48, (8, 16, 24), False)
    assert (text.sections, text.interleaved, text.head_norms, text.added) == ((24, 20, 20), True, True, 3)
    assert (text.rope_theta, text.kv_heads, text.head_width, text.qkv_bias, text.tied) == (5e6, 8, 128, False, False)
    assert QWEN3_VL.read_config(PATH, QWEN3_VL.write_config(config, "bfloat16")) == config


@pytest.mark.parametrize(
    ("part", "values", "complaint"),
    [
        (None, {"model_type": "qwen3_vl_moe"}, "model_type is 'qwen3_vl_moe'"),
        ("text_config", {"attention_bias": True}, "attention_bias is True"),
        ("text_config", {"num_experts": 8}, "num_experts = 8"),
        (
            "text_config",
            {"rope_scaling": {"mrope_interleaved": False, "mrope_section": [24, 20, 20], "rope_type": "default"}},
            "mrope_interleaved is not true; supported: true",
        ),
        (
            "text_config",
            {"rope_scaling": {"mrope_section": [24, 20, 21], "rope_type": "default"}},
            r"mrope_section is \[24, 20, 21\]; expected three numbers with the sum 64",
        ),
        ("text_config", {"num_hidden_layers": 2}, "the tower has features for 3 layers of the decoder, which has 2"),
        ("vision_config", {"num_position_embeddings": 2300}, "num_position_embeddings is 2300; supported: a square"),
        ("vision_config", {"deepstack_visual_indexes": [8, 27]}, r"indexes is \[8, 27\]; supported: numbers from 0 to"),
        ("vision_config", {"deepstack_visual_indexes": [16, 8]}, r"indexes is \[16, 8\]; supported: ascending"),
        ("vision_config", {"deepstack_visual_indexes": []}, r"indexes is \[\]; supported: ascending"),
        ("vision_config", {"temporal_patch_size": 1}, "temporal_patch_size is 1"),
        ("vision_config", {"out_hidden_size": 64}, "the tower's features have a width of 64, the decoder 4096"),
    ],
)
def test_what_is_not_computed_is_refused(part: str | None, values: dict[str, Any], complaint: str) -> None:
    content = {**EIGHT, **values} if part is None else {**EIGHT, part: {**EIGHT[part], **values}}
    with pytest.raises(CheckpointError, match=complaint) as caught:
        QWEN3_VL.read_config(PATH, content)
    assert "\n" not in str(caught.value)


def test_its_chat_has_no_system_message() -> None:
    ours, older = (NAMED_TEMPLATES[name].text for name in ("qwen3_vl", "qwen_vl"))
    assert ours.startswith(f"<|im_start|>user\n{IMAGE_PLACEHOLDER}")
    assert older.endswith(ours)
    assert QWEN3_VL.template(Path("model"), QWEN3_VL.tiny).name == "qwen3_vl"
