"""`config.json` of an Idefics3 or SmolVLM checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.idefics3.modeling import Idefics3Config
from xmflow_jax.families.llava.config import TEXT, VISION
from xmflow_jax.weights.clip_tower import SIGLIP, siglip_section, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import check_keys, fill_defaults, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.text_decoder import LLAMA, LLAMA_KEYS, check_theta, read_text, write_text


@dataclass(frozen=True)
class Form:
    """What tells the two apart in a file.

    Attributes:
        model_type: of the whole; the tower's part has `_vision` behind it.
        architecture: the class that saved the file.
        filled_by: transformers' configuration class.
    """

    model_type: str
    architecture: str
    filled_by: str

    @property
    def tower_type(self) -> str:
        return f"{self.model_type}_vision"


IDEFICS3: Final = Form("idefics3", "Idefics3ForConditionalGeneration", "Idefics3Config")
SMOLVLM: Final = Form("smolvlm", "SmolVLMForConditionalGeneration", "SmolVLMConfig")

_AUTHORS: Final = "of the authors' training code, which transformers' model does not read"

# What the authors' code wrote into the decoder's part beside Llama's own keys.
_TEXT_FIXED: Final = {
    "is_llama_config": (True,),
    "neftune_noise_alpha": (0.0, None),
    "qk_layer_norms": (False,),
    "rope_interleaved": (False,),
    "use_resampler": (False,),
}
_TEXT_HARMLESS: Final = dict.fromkeys(
    ("_flash_attn_2_enabled", "perceiver_config", "pixel_shuffle_factor", "transformers.js_config"), _AUTHORS
)
_PROCESSOR: Final = "the image processor's own file says it"


def _whole(form: Form) -> Section:
    return Section(
        name="",
        read=frozenset(
            {"image_token_id", "model_type", "scale_factor", "text_config", "tie_word_embeddings", "vision_config"}
        ),
        fixed={**COMMON_FIXED, "architectures": ([form.architecture], None)},
        harmless={
            **COMMON_HARMLESS,
            **dict.fromkeys(("transformers.js_config", "use_reentrant_checkpointing"), _AUTHORS),
            "vocab_size": "of the decoder, told a second time",
        },
    )


def _tower() -> Section:
    """Of a SigLIP under these families' own type."""
    section = siglip_section(VISION)
    own = {**dict.fromkeys(("max_image_size", "size"), _PROCESSOR), "use_base_siglip": _AUTHORS}
    return Section(VISION, section.read, section.fixed, {**section.harmless, **own})


def read_config(form: Form, path: Path, published: Mapping[str, Any]) -> Idefics3Config:
    """The configuration of a checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, _whole(form), published, form.model_type)
    text = published.get(TEXT, {})
    read, fixed, harmless = LLAMA_KEYS
    check_keys(path, Section(TEXT, read, {**fixed, **_TEXT_FIXED}, {**harmless, **_TEXT_HARMLESS}), text, LLAMA)
    check_theta(path, TEXT, text)
    tower = published.get(VISION, {})
    # What files of before named instead: the whole model's type.
    if isinstance(tower, Mapping) and tower.get("model_type") == form.model_type:
        tower = {**tower, "model_type": form.tower_type}
    check_keys(path, _tower(), tower, form.tower_type)
    filled = fill_defaults(path, {**published, VISION: tower}, form.filled_by)
    filled.vision_config.model_type = SIGLIP
    vision = replace(tower_sizes(path, VISION, filled.vision_config), final_norm=True)
    join = size(path, "scale_factor", filled.scale_factor)
    if vision.image_size % vision.patch_size or vision.grid % join:
        raise CheckpointError(
            f"{path}: scale_factor is {join} and a tile of {vision.image_size} pixels has patches of "
            f"{vision.patch_size}; supported: numbers that divide a tile without rest"
        )
    # A flag in the decoder's part alone does not tie in transformers.
    tied = bool(published.get("tie_word_embeddings", False))
    return Idefics3Config(
        vision=vision,
        text=read_text(path, TEXT, filled.text_config, tied=tied),
        join=join,
        image_token=size(path, "image_token_id", filled.image_token_id, least=0),
    )


def write_config(form: Form, config: Idefics3Config, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    tower = write_tower(config.vision)
    del tower["vision_use_head"]
    return {
        "architectures": [form.architecture],
        "model_type": form.model_type,
        "dtype": dtype,
        "image_token_id": config.image_token,
        "scale_factor": config.join,
        "tie_word_embeddings": config.text.tied,
        "text_config": write_text(config.text),
        "vision_config": {**tower, "model_type": form.tower_type},
    }
