"""The benchmarks by name: real layouts and sizes, or small decoders behind them, random weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from experiments.benchmarks.workload import Preset
from xmflow_jax.families.family import Family
from xmflow_jax.families.gemma3.modeling import Gemma3Config
from xmflow_jax.families.idefics3.modeling import Idefics3Config
from xmflow_jax.families.internvl.modeling import InternVLConfig
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevisionConfig
from xmflow_jax.families.paligemma.modeling import PaliGemmaConfig
from xmflow_jax.families.qwen2_vl.modeling import QwenVLConfig
from xmflow_jax.families.registry import (
    GEMMA_3,
    IDEFICS3,
    INTERNVL,
    LLAVA,
    LLAVA_NEXT,
    LLAVA_ONEVISION,
    PALIGEMMA,
    QWEN2_5_VL,
    QWEN2_VL,
    QWEN3_VL,
)
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gemma import GemmaConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.qwen_vision import QwenVisionConfig

_SMALL = LlavaConfig(
    ClipVisionConfig(336, 14, width=256, mlp_width=1024, layers=12, heads=4),
    LlamaConfig(32000, width=512, mlp_width=1376, layers=16, heads=8, kv_heads=8, head_width=64),
    image_token=31999,
)
_SEVEN_B = LlavaConfig(
    ClipVisionConfig(336, 14, width=1024, mlp_width=4096, layers=24, heads=16),
    LlamaConfig(32064, width=4096, mlp_width=11008, layers=32, heads=32, kv_heads=32, head_width=128),
    image_token=32000,
)
_THIRTEEN_B = LlavaConfig(
    _SEVEN_B.vision,
    LlamaConfig(32064, width=5120, mlp_width=13824, layers=40, heads=40, kv_heads=40, head_width=128),
    image_token=32000,
)
_TINY = LlavaConfig(
    ClipVisionConfig(56, 14, width=32, mlp_width=64, layers=3, heads=2),
    LlamaConfig(100, width=64, mlp_width=96, layers=6, heads=4, kv_heads=4, head_width=16),
    image_token=99,
)
_CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_NEXT = LlavaNextConfig(_SMALL.vision, _SMALL.text, _SMALL.image_token, _CANVASES)
_NEXT_SEVEN_B = LlavaNextConfig(_SEVEN_B.vision, _SEVEN_B.text, _SEVEN_B.image_token, _CANVASES)
_GIVEN: Final[Mapping[str, Preset]] = {
    "cpu-576": Preset(_SMALL, "float32", 1, 35, 32, window=5, questions=6, torch_knockouts=None, plain_knockouts=8),
    "cpu-2880": Preset(_SMALL, "float32", 5, 35, 32, window=5, questions=3, torch_knockouts=12, plain_knockouts=4),
    "llava-1.5-7b": Preset(
        _SEVEN_B,
        "bfloat16",
        1,
        35,
        32,
        window=9,
        questions=32,
        torch_knockouts=None,
        plain_knockouts=16,
        reference_knockouts=24,
    ),
    # A picture that fills the largest canvas: 2,928 positions.
    "next-2928": Preset(
        _NEXT,
        "float32",
        1,
        35,
        32,
        window=5,
        questions=3,
        torch_knockouts=12,
        plain_knockouts=4,
        family=LLAVA_NEXT,
        picture=(672, 672),
    ),
    # For a GPU of 80 GB or more.
    "llava-1.5-13b": Preset(
        _THIRTEEN_B,
        "bfloat16",
        1,
        35,
        32,
        window=9,
        questions=16,
        torch_knockouts=None,
        plain_knockouts=8,
        reference_knockouts=8,
    ),
    "llava-next-7b": Preset(
        _NEXT_SEVEN_B,
        "bfloat16",
        1,
        35,
        32,
        window=9,
        questions=16,
        torch_knockouts=48,
        plain_knockouts=8,
        reference_knockouts=8,
        family=LLAVA_NEXT,
        picture=(672, 672),
    ),
    "tiny": Preset(_TINY, "float32", 1, 5, 12, window=3, questions=3, torch_knockouts=None, plain_knockouts=8),
}


# One photo of 1,024 x 768, in each family's own positions: a decoder of 16 layers x 512 behind a tower of 12 x 256 with
# the published patches and tiles.
PHOTO: Final = (1024, 768)


def _photo(family: Family, model: Any) -> Preset:
    return Preset(
        model,
        "float32",
        1,
        35,
        32,
        window=5,
        questions=3,
        torch_knockouts=6,
        plain_knockouts=0,
        family=family,
        picture=PHOTO,
    )


_SIGLIP = replace(
    _SMALL.vision,
    activation="gelu_pytorch_tanh",
    norm_eps=1e-6,
    patch_bias=True,
    pre_norm=False,
    class_token=False,
)
_INTERNVIT = replace(
    _SMALL.vision,
    image_size=448,
    activation="gelu",
    norm_eps=1e-6,
    patch_bias=True,
    pre_norm=False,
    closing_norm=False,
    layer_scale=True,
)
_QWEN2 = replace(_SMALL.text, model_type="qwen2", qkv_bias=True)
_ONEVISION_CANVASES = tuple((384 * rows, 384 * columns) for rows in range(1, 7) for columns in range(1, 7))
_GEMMA = GemmaConfig(32000, width=512, mlp_width=1376, layers=16, heads=8, kv_heads=4, head_width=64, query_scalar=64)


def _qwen(form: str, vision: QwenVisionConfig, **text: Any) -> QwenVLConfig:
    """With marks at the vocabulary's end."""
    decoder = replace(_SMALL.text, model_type=form, norm_eps=1e-6, rope_theta=1e6, **text)
    return QwenVLConfig(vision, decoder, image_token=31999, start_token=31998, end_token=31997)


_QWEN_TOWER = QwenVisionConfig(
    14, 2, width=256, mlp_width=1024, layers=12, heads=4, text_width=512, gated=False, activation="quick_gelu"
)
_PHOTO_MODELS: Final[tuple[tuple[Family, Any], ...]] = (
    (LLAVA, _SMALL),
    (LLAVA_NEXT, _NEXT),
    (
        LLAVA_ONEVISION,
        LlavaOnevisionConfig(replace(_SIGLIP, image_size=384), _QWEN2, 31999, _ONEVISION_CANVASES, most_tiles=9),
    ),
    (QWEN2_VL, _qwen("qwen2_vl_text", _QWEN_TOWER, qkv_bias=True, sections=(8, 12, 12))),
    (
        QWEN2_5_VL,
        _qwen(
            "qwen2_5_vl_text",
            replace(_QWEN_TOWER, gated=True, window=112, whole_layers=(2, 5, 8, 11), activation="silu"),
            qkv_bias=True,
            sections=(8, 12, 12),
        ),
    ),
    (
        QWEN3_VL,
        _qwen(
            "qwen3_vl_text",
            replace(_QWEN_TOWER, patch_size=16, table=48, deep_layers=(3, 6, 9), activation="gelu_pytorch_tanh"),
            sections=(12, 10, 10),
            interleaved=True,
            head_norms=True,
            added=3,
        ),
    ),
    (INTERNVL, InternVLConfig(_INTERNVIT, _QWEN2, join=2, image_token=31999)),
    (
        IDEFICS3,
        Idefics3Config(
            replace(_SIGLIP, image_size=512, patch_size=16, final_norm=True), _SMALL.text, join=4, image_token=31999
        ),
    ),
    (
        GEMMA_3,
        Gemma3Config(
            replace(_SIGLIP, image_size=896, final_norm=True),
            replace(
                GEMMA_3.tiny.text,
                vocabulary=32000,
                width=512,
                mlp_width=1376,
                layers=16,
                heads=8,
                kv_heads=4,
                head_width=64,
                query_scalar=64,
                sliding=tuple(layer % 6 != 5 for layer in range(16)),
                span=1024,
            ),
            side=16,
            image_token=31999,
            begin_token=31998,
            end_token=31997,
        ),
    ),
    (PALIGEMMA, PaliGemmaConfig(replace(_SIGLIP, image_size=224, final_norm=True), _GEMMA, image_token=31999)),
)
PHOTOS: Final[Mapping[str, Preset]] = {
    f"photo-{family.model_type}": _photo(family, model) for family, model in _PHOTO_MODELS
}
PRESETS: Final[Mapping[str, Preset]] = {**_GIVEN, **PHOTOS}
