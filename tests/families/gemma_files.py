"""Tokenizer and image processor of a tiny checkpoint in Gemma's manner, for its families' tests."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Final

from tests.data.tiny_processing import write_json

PAD, END, BEGIN, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
# With the ids 0, 1, ... in this order.
SPECIAL: Final = (
    *(PAD, END, BEGIN, UNKNOWN, "<start_of_turn>", "<end_of_turn>"),
    *("<image>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
)
LINE_ENDS: Final = ("\n", "\n\n", "\n\n\n")
WORDS: Final = ("is", "it", "red", "or", "blue", "en", "the", "single", "word")


def write_gemma_tokenizer(folder: Path, adds_begin: bool = True, image: str = "<image_soft_token>") -> int:
    """Spaces are `▁`, none is put before a text, and up to three line ends are one piece; returns the vocabulary's
    size.

    Args:
        image: the mark of an image position, as `tokenizer_config.json` names it.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, processors

    merges = [("\n", "\n"), ("\n\n", "\n")]
    for word in WORDS:
        merges += [(front, letter) for front, letter in zip(accumulate(word, initial="▁"), word, strict=False)]
    merges = list(dict.fromkeys(merges))
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters, "\n"]
    pieces += [left + right for left, right in merges]
    model = models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=merges,
        unk_token=UNKNOWN,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    if adds_begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, SPECIAL.index(BEGIN))]
        )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": image,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return len(pieces)


def write_siglip_processor(folder: Path, kind: str, side: int, **more: object) -> None:
    """`preprocessor_config.json` of an image processor that stretches pictures to a square of `side` pixels."""
    settings = {
        "image_processor_type": kind,
        "size": {"height": side, "width": side},
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        **more,
    }
    write_json(folder / "preprocessor_config.json", settings)
