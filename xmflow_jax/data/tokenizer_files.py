"""A checkpoint's tokenizer from its files: `tokenizer.json`, or GPT-2's older two, vocabulary and merges."""

from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.json_files import read_json_object, refuse_broken

TOKENIZER: Final = "tokenizer.json"
VOCABULARY: Final = "vocab.json"
MERGES: Final = "merges.txt"
SETTINGS: Final = "tokenizer_config.json"

# Whatever transformers reads of a tokenizer; a stand-in for one of them could change ids without a word.
_READ: Final = (TOKENIZER, VOCABULARY, MERGES, SETTINGS, "special_tokens_map.json", "added_tokens.json")

# Classes whose vocabulary and merges alone give the ids; None: the file names no class, as GPT-2's own does not.
_GPT2: Final = ("GPT2Tokenizer", "GPT2TokenizerFast")

# Not read: transformers 5 converts SentencePiece's model without the space that it puts before every text, and so gives
# other tokens than the model was trained with.
_OTHERS: Final = ("tokenizer.model", "spiece.model", "sentencepiece.*.model", "vocab.txt", "tekken.json", "*.tiktoken")
_EXPECTED: Final = f"expected {TOKENIZER}, or GPT-2's {VOCABULARY} and {MERGES}"


def tokenizer_class(directory: Path) -> Any:
    """The class of transformers that reads this directory's tokenizer.

    Raises:
        CheckpointError: files are missing, or are none of those that are read.
    """
    # Imported here because transformers takes seconds to import and most of the package does without it.
    from transformers import AutoTokenizer, GPT2TokenizerFast

    for name in _READ:
        if (directory / name).exists() or (directory / name).is_symlink():
            refuse_broken(directory / name)
    if (directory / TOKENIZER).is_file():
        return AutoTokenizer
    missing = [name for name in (VOCABULARY, MERGES) if not (directory / name).is_file()]
    if not missing:
        _check_gpt2(directory)
        return GPT2TokenizerFast
    refuse_broken(directory / TOKENIZER)
    if len(missing) == 1:
        raise CheckpointError(f"{directory}: no tokenizer; {_EXPECTED}; of the two {missing[0]} is missing")
    others = sorted(path.name for pattern in _OTHERS for path in directory.glob(pattern))
    if others:
        raise CheckpointError(
            f"{directory}: no tokenizer; {_EXPECTED}; {others[0]} alone is not read: make {TOKENIZER} of it once with "
            "transformers 4 (5 makes another one): AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    raise CheckpointError(f"{directory}: no tokenizer; {_EXPECTED}")


def _check_gpt2(directory: Path) -> None:
    """Refuse a vocabulary with merges that is another tokenizer's: each class cuts text in its own way before them."""
    settings = read_json_object(directory / SETTINGS) if (directory / SETTINGS).exists() else {}
    named = settings.get("tokenizer_class")
    if named in _GPT2 or (named is None and "<|endoftext|>" in read_json_object(directory / VOCABULARY)):
        return
    raise CheckpointError(
        f"{directory}: the tokenizer is {named!r} without {TOKENIZER}; of {VOCABULARY} and {MERGES} GPT-2's alone are "
        f"read; make {TOKENIZER} once with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    )
