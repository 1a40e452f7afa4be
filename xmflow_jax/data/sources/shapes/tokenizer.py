"""A word-level tokenizer for the words of the `shapes` questions, answers and captions."""

import json
from pathlib import Path
from typing import Final

from xmflow_jax.data.sources.shapes.scenes import VALUES

BEGIN, END, UNKNOWN, IMAGE = "<s>", "</s>", "<unk>", "<image>"

# Between the question and the answer; its last token is where the answer is read.
CUE: Final = "Answer:"
LLAVA_TEMPLATE: Final = f"<image>{{question}} {CUE}"
CROSS_ATTENTION_TEMPLATE: Final = f"{{question}} {CUE}"

_PUNCTUATION: Final = ("?", ":", ",", ".")
_WORDS: Final = (
    *("Is", "there", "What", "On", "which", "side", "do", "the", "a", "and", "or", "of", "is", "share", "object"),
    *("Answer", "yes", "no", "left", "right", "above", "below"),
    # Captions.
    *("A", "The", "in", "at", "to", "with", "are", "top", "middle", "bottom", "center"),
)


def vocabulary() -> tuple[str, ...]:
    """All tokens in the order of their ids; the image token is the last."""
    words = (*_WORDS, *VALUES, *(value for values in VALUES.values() for value in values))
    return (UNKNOWN, BEGIN, END, *_PUNCTUATION, *(f"▁{word}" for word in dict.fromkeys(words)), IMAGE)


def write_shapes_tokenizer(folder: Path) -> int:
    """Writes `tokenizer.json` and `tokenizer_config.json` into an existing folder; returns the vocabulary's size."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = vocabulary()
    tokenizer = Tokenizer(
        models.WordLevel(vocab={token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex(r"[?:,.]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, tokens.index(BEGIN))]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (UNKNOWN, BEGIN, END, IMAGE)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "pad_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 128,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return len(tokens)
