"""Vision encoder-decoder directories: everything accounted for, what is not understood refused by name."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file
from transformers import VisionEncoderDecoderModel

from tests.families.full_pass import answer_logits
from tests.families.variants import ENCODER_DECODERS as CONFIGS
from tests.families.vision_encoder_decoder.torch_encoder_decoder import build_encoder_decoder
from tests.random_network import random_network
from tests.weights.tiny_checkpoint import edit_config, edit_tensors
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.families.registry import VISION_ENCODER_DECODER
from xmflow_jax.families.vision_encoder_decoder.modeling import (
    XMFLOW_12X1024,
    CrossAttentionConfig,
    CrossAttentionModel,
)
from xmflow_jax.nn.anatomy import CROSS, SELF, Site
from xmflow_jax.nn.gpt2 import MODEL_WIDTH
from xmflow_jax.nn.stacks import every_row, nothing_dropped
from xmflow_jax.weights.load import LoadedModel, abstract_model, shapes
from xmflow_jax.weights.random_checkpoint import write_random

TINY = CONFIGS["clip"]


def same(one: LoadedModel, other: LoadedModel) -> None:
    first, second = dict(nnx.to_flat_state(one.state)), dict(nnx.to_flat_state(other.state))
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(np.asarray(leaf.get_value()), np.asarray(second[path].get_value()))


@pytest.mark.parametrize("encoder", ["clip", "vit"])
def test_the_names_that_pytorch_has_in_memory(tmp_path: Path, encoder: str) -> None:
    """A file of the state dict as it is, tied head and pooled output included."""
    torch_model = build_encoder_decoder(tmp_path / "saved", encoder=encoder)
    (tmp_path / "memory").mkdir()
    shutil.copy(tmp_path / "saved" / "config.json", tmp_path / "memory")
    # Cloned, because the format refuses tensors that share memory.
    tensors = {name: tensor.clone() for name, tensor in torch_model.state_dict().items()}
    save_file(tensors, tmp_path / "memory" / "model.safetensors")
    assert "decoder.lm_head.weight" in tensors
    same(load_model(tmp_path / "memory"), load_model(tmp_path / "saved"))


@pytest.mark.parametrize("name", ["clip", "vit", "equal widths", "untied"])
def test_transformers_reads_what_is_written_and_agrees(tmp_path: Path, name: str) -> None:
    write_random(tmp_path, VISION_ENCODER_DECODER, CONFIGS[name], seed=1)
    torch_model, report = VisionEncoderDecoderModel.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    # ViT's pooled output is made anew: no decoder reads it, and so it is not written.
    assert {key for key in report["missing_keys"] if "pooler" not in key} == set()
    assert set(report["unexpected_keys"]) == set()
    rng = np.random.default_rng(0)
    tokens, pixels = rng.integers(0, 40, (2, 6)), rng.normal(size=(2, 28, 28, 3)).astype(np.float32)
    with torch.inference_mode():
        told = torch_model.eval()(torch.tensor(pixels.transpose(0, 3, 1, 2)), torch.tensor(tokens)).logits[:, -1]
    loaded = load_model(tmp_path)
    ours = answer_logits(loaded.net, tokens[:, :6], pixels)
    np.testing.assert_allclose(ours, told.numpy(), rtol=0, atol=1e-4)
    # Neither certain nor arbitrary.
    assert 1.5 < float(ours.std()) < 6


def test_the_preset_has_the_users_sizes() -> None:
    """Counted by hand: 12 + 12 layers of width 1024, 16 heads, 16-pixel patches; the scale is 1 / sqrt(1024)."""
    width, mlp = 1024, 4096
    norm, square = 2 * width, width * width + width
    feed_forward = width * mlp + mlp + mlp * width + width
    encoder_block = 4 * square + feed_forward + 2 * norm
    decoder_block = 8 * square + feed_forward + 3 * norm
    patches = (224 // 16) ** 2
    encoder = 12 * encoder_block + 2 * norm + width + 3 * 16 * 16 * width + (patches + 1) * width
    decoder = 12 * decoder_block + norm + 50257 * width + 1024 * width
    leaves = shapes(abstract_model(VISION_ENCODER_DECODER, XMFLOW_12X1024, "float32")[1]).values()
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == encoder + decoder
    text = XMFLOW_12X1024.text
    assert (text.layers, text.heads, XMFLOW_12X1024.vision.heads, XMFLOW_12X1024.image_positions) == (12, 16, 16, 197)
    tiny = replace(TINY, text=replace(TINY.text, cross_scale=MODEL_WIDTH))
    net = random_network(lambda: CrossAttentionModel(tiny, rngs=nnx.Rngs(0)))
    block, scales = net.module().stacks[0].groups[0].block(0), {}

    def attend_at(site: Site, query: Any, own: Any, scale: float) -> Any:
        scales[site] = scale
        return query

    block(jnp.zeros((1, 1, tiny.text.width)), None, attend_at, nothing_dropped, every_row)
    assert scales == {SELF: pytest.approx(6**-0.5), CROSS: pytest.approx(24**-0.5)}


def in_config(part: str, **values: Any) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        edit_config(directory, lambda content: (content[part] if part else content).update(values))

    return edit


FUSED, UNFUSED = "decoder.transformer.h.0.attn.c_attn.weight", np.zeros((24, 24), np.float32)
QUERY_BIAS = "decoder.transformer.h.1.crossattention.q_attn.bias"

REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another family": (in_config("", model_type="no_such"), "model_type is 'no_such'; supported: 'llava' or "),
    "another decoder": (in_config("decoder", model_type="bert"), "decoder.model_type is 'bert'"),
    "another encoder": (in_config("encoder", model_type="swin"), "encoder.model_type is 'swin'"),
    "no cross-attention": (in_config("decoder", add_cross_attention=False), "decoder.add_cross_attention is False"),
    "scaling by layer": (
        in_config("decoder", scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx is True",
    ),
    "another width of the image's states": (
        in_config("decoder", cross_attention_hidden_size=16), "decoder.cross_attention_hidden_size is 16",
    ),
    "logits in another type": (in_config("decoder", reorder_and_upcast_attn=True), "reorder_and_upcast_attn is True"),
    "two sides": (in_config("encoder", image_size=[28, 28]), "image_size"),
    "no part": (in_config("", decoder=None), "decoder is None"),
    "unscaled": (in_config("decoder", scale_attn_weights=False), "scale_attn_weights is False"),
    "unknown key": (in_config("decoder", rotary=True), "decoder.rotary = True"),
    "activation": (in_config("decoder", activation_function="relu"), "decoder.activation_function is 'relu'"),
    "own scale": (in_config("", cross_attention_scale="none"), "cross_attention_scale is 'none'"),
    "class token": (in_config("", keep_class_token="no"), "keep_class_token is 'no'"),
    "heads": (in_config("decoder", n_head=5), "decoder.n_head is 5; it must divide n_embd, 24"),
    "missing tensor": (
        lambda path: edit_tensors(path, lambda tensors: tensors.pop(QUERY_BIAS)),
        f"1 missing: {QUERY_BIAS}",
    ),
    "left-over tensor": (
        lambda path: edit_tensors(path, lambda tensors: tensors.update(extra=np.zeros(3, np.float32))),
        "1 not understood: extra",
    ),
    "wrong shape": (
        lambda path: edit_tensors(
            path, lambda tensors: tensors.update({"enc_to_dec_proj.weight": np.zeros((16, 24), np.float32)})
        ),
        "enc_to_dec_proj.weight has shape (16, 24), expected (24, 16)",
    ),
    "unfused": (
        lambda path: edit_tensors(
            path,
            lambda tensors: tensors.update({FUSED: UNFUSED}),
        ),
        "c_attn.weight has shape (24, 24), expected (24, 72)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, edit: Callable[[Path], None], message: str) -> None:
    write_random(tmp_path, VISION_ENCODER_DECODER, TINY, seed=0)
    edit(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        load_model(tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.bool_])
def test_masks_that_old_files_hold_are_harmless(tmp_path: Path, kind: type) -> None:
    write_random(tmp_path, VISION_ENCODER_DECODER, TINY, seed=0)
    before = load_model(tmp_path)
    blocks = [f"decoder.transformer.h.{layer}.{part}" for layer in range(3) for part in ("attn", "crossattention")]
    masks = {f"{block}.bias": np.tril(np.ones((1, 1, 50, 50), kind)) for block in blocks}
    masks |= {f"{block}.masked_bias": np.array(-1e4, np.float32) for block in blocks}
    edit_tensors(tmp_path, lambda tensors: tensors.update(masks))
    same(load_model(tmp_path), before)


def test_a_tied_head_must_be_the_embedding(tmp_path: Path) -> None:
    write_random(tmp_path, VISION_ENCODER_DECODER, TINY, seed=0)
    before = load_model(tmp_path)
    embedding, head = "decoder.transformer.wte.weight", "decoder.lm_head.weight"
    edit_tensors(tmp_path, lambda tensors: tensors.update({head: tensors[embedding]}))
    same(load_model(tmp_path), before)
    edit_tensors(tmp_path, lambda tensors: tensors.update({head: tensors[embedding] + 1}))
    with pytest.raises(CheckpointError, match="tie_word_embeddings is true, but decoder"):
        load_model(tmp_path)


def test_the_configuration_as_transformers_4_wrote_it(tmp_path: Path) -> None:
    """Every field of every part, as in the image captioning models on the hub; none of them changes the model."""
    write_random(tmp_path, VISION_ENCODER_DECODER, CONFIGS["vit"], seed=0)
    expected = read_checkpoint(tmp_path).config
    common = {
        "bad_words_ids": None, "begin_suppress_tokens": None, "bos_token_id": 99, "chunk_size_feed_forward": 0,
        "decoder_start_token_id": 99, "diversity_penalty": 0.0, "do_sample": False, "early_stopping": False,
        "encoder_no_repeat_ngram_size": 0, "eos_token_id": 99, "exponential_decay_length_penalty": None,
        "forced_bos_token_id": None, "forced_eos_token_id": None, "length_penalty": 1.0, "max_length": 20,
        "min_length": 0, "no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1,
        "output_attentions": False, "output_hidden_states": False, "output_scores": False, "pad_token_id": 99,
        "prefix": None, "problem_type": None, "pruned_heads": {}, "remove_invalid_values": False,
        "repetition_penalty": 1.0, "return_dict": True, "return_dict_in_generate": False, "sep_token_id": None,
        "suppress_tokens": None, "task_specific_params": {"text-generation": {"do_sample": True}}, "temperature": 1.0,
        "tf_legacy_loss": False, "tie_encoder_decoder": False, "tokenizer_class": None, "top_k": 50, "top_p": 1.0,
        "torch_dtype": None, "torchscript": False, "typical_p": 1.0, "use_bfloat16": False, "finetuning_task": None,
        "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "cross_attention_hidden_size": None,
    }  # fmt: skip
    decoder = {
        "n_ctx": 50, "use_cache": True, "summary_activation": None, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True, "_num_labels": 1,
        "gradient_checkpointing": False, "output_past": True, "n_special": 0, "predict_special_tokens": True,
        "reorder_and_upcast_attn": False, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
    }  # fmt: skip
    encoder = {"add_cross_attention": False, "is_decoder": False, "qkv_bias": True, "encoder_stride": 16}
    in_config("", **common, tie_word_embeddings=False, transformers_version="4.33.0.dev0")(tmp_path)
    in_config("decoder", **common, **decoder)(tmp_path)
    in_config("encoder", **common, **encoder, tie_word_embeddings=True)(tmp_path)
    assert read_checkpoint(tmp_path).config == expected


def test_the_configuration_is_read_from_a_terse_file(tmp_path: Path) -> None:
    """Left-out values are transformers' defaults, not ours."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "vision-encoder-decoder", "encoder": {"model_type": "vit"}, '
        '"decoder": {"model_type": "gpt2", "add_cross_attention": true}}'
    )
    config = read_checkpoint(tmp_path).config
    assert isinstance(config, CrossAttentionConfig)
    assert (config.vision.width, config.vision.layers, config.vision.norm_eps) == (768, 12, 1e-12)
    assert config.vision.patch_bias
    assert not config.vision.pre_norm
    assert (config.text.width, config.text.mlp_width, config.text.vocabulary) == (768, 3072, 50257)
    assert config.text.tied
