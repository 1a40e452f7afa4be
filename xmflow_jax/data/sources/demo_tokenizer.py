"""A small tokenizer in Llama's manner, written by the program itself for its demonstration checkpoint and its tests.

Like Llama's it is a BPE with `▁` for spaces, bytes for what it has no piece for, and `<s>` before every text. Its
merges are listed rather than trained, so that every version of every library writes the same file.
"""

import json
import string
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Final

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
IMAGE: Final = "<image>"

# The words of the demonstration's questions, of its answers and of the prompts around them; each is one piece.
_WORDS: Final = (
    *("red", "blue", "green", "yellow", "left", "right", "yes", "no", "color", "size"),
    *("circle", "square", "star", "cross", "the", "is", "or", "of", "to", "a", "there", "that", "Is", "What", "do"),
    *("both", "and", "have", "in", "common", "On", "which", "Which", "side", "image", "photo", "kind", "shape"),
    *("A", "chat", "between", "curious", "user", "an", "artificial", "intelligence", "assistant", "The", "gives"),
    *("helpful", "detailed", "polite", "answers", "user's", "questions", "USER", "ASSISTANT"),
    *("question", "using", "single", "word", "phrase"),
)
_LETTERS: Final = string.ascii_letters + string.digits + ".,?!:;'\"-_/()"


def write_demo_tokenizer(folder: Path) -> int:
    """Writes `tokenizer.json` and `tokenizer_config.json` into `folder`, which is made if need be.

    Returns:
        The size of the vocabulary. `<unk>`, `<s>` and `</s>` are 0, 1 and 2; `<image>` has the last id.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    merges = _merges(_WORDS)
    pieces = [UNKNOWN, BEGIN, END, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *_LETTERS]
    pieces += [left + right for left, right in merges] + [IMAGE]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=merges,
            unk_token=UNKNOWN,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, pieces.index(BEGIN))]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (UNKNOWN, BEGIN, END, IMAGE)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_CONFIGURATION, indent=2) + "\n", encoding="utf-8")
    return len(pieces)


_CONFIGURATION: Final = {
    "tokenizer_class": "LlamaTokenizerFast",
    "bos_token": BEGIN,
    "eos_token": END,
    "unk_token": UNKNOWN,
    "pad_token": UNKNOWN,
    "add_bos_token": True,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 4096,
}


def _merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merges that build every word from its front: ▁ r, ▁r e, ▁re d.

    As all of them begin at a space, no merge can take a letter that another one needs, and their order is free.
    """
    steps: dict[tuple[str, str], None] = {}
    for word in words:
        fronts = list(accumulate(word, initial="▁"))
        steps |= dict.fromkeys(zip(fronts, word, strict=False))
    return list(steps)
