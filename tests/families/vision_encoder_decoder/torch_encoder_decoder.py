"""Tiny vision encoder-decoders of transformers, eager and in float32, written to a directory."""

from pathlib import Path
from typing import Any

import torch

LAYERS, HEADS, WORDS, IMAGE = 3, 4, 50, 28


def build_encoder_decoder(folder: Path, *, encoder: str = "clip", width: int = 24, tied: bool = True) -> Any:
    """A CLIP or ViT encoder of this width and a GPT-2 of width 24; its attention is far from uniform."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        GPT2Config,
        GPT2LMHeadModel,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTModel,
    )

    torch.manual_seed(0)
    sizes = {
        "hidden_size": width,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": IMAGE,
        "patch_size": 14,
        "attn_implementation": "eager",
    }
    tower = CLIPVisionModel(CLIPVisionConfig(**sizes)) if encoder == "clip" else ViTModel(ViTConfig(**sizes))
    text = GPT2Config(
        vocab_size=WORDS,
        n_positions=40,
        n_embd=24,
        n_layer=LAYERS,
        n_head=HEADS,
        add_cross_attention=True,
        is_decoder=True,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    model = VisionEncoderDecoderModel(encoder=tower, decoder=GPT2LMHeadModel(text)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from the initial zeros and ones, so that a lost bias or norm shows.
            parameter.add_(torch.randn_like(parameter) * 0.1)
            if "q_attn" in name or "c_attn" in name:
                parameter.mul_(2)
    model.save_pretrained(folder)
    return model
