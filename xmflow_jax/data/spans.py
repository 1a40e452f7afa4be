"""Finds which tokens a piece of the prompt's text became, by the first study's rule.

The rule (released code of arXiv 2411.18620, `find_token_range`): join the token pieces, look for the first
occurrence of the text, and take the tokens from the first one that reaches past its start through the one that covers
its end. A token that only partly belongs to the text therefore counts as a whole:

    pieces    | ▁Is | ▁the | ▁sh | irt | ▁red | ?   |
    "shirt"               [▁sh     irt]
    "he"           [▁the]

Two consequences, kept because published numbers rest on them: a leading space inside a token (`▁red`) is
taken along, and the first occurrence may lie inside another word ("cat" in "category", "left" in "leftmost").

Here the search is over bytes, where the released code's is over characters, so that text outside ASCII is found too;
for ASCII text both give the same tokens (but that the released code can find an "A" in the six letters `<0x0A>`).
"""

import re
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from functools import cache
from itertools import accumulate
from typing import Final

from xmflow_jax.errors import QuestionSetAside

_METASPACE: Final = "▁"
_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-F]{2})>")


class PieceAlphabet(Enum):
    """How a tokenizer's pieces spell text: SentencePiece's `▁` and `<0x0A>`, or byte-level BPE's `Ġ` and `Ċ`."""

    SENTENCEPIECE = "sentencepiece"
    BYTE_LEVEL = "byte-level"


def piece_alphabet(vocabulary: Collection[str]) -> PieceAlphabet:
    """The alphabet of a tokenizer with this vocabulary.

    Byte pieces are looked for first: a large SentencePiece vocabulary can hold the letters `Ġ` and `Ċ` as well.
    """
    if "<0x0A>" in vocabulary or "Ċ" not in vocabulary:
        return PieceAlphabet.SENTENCEPIECE
    return PieceAlphabet.BYTE_LEVEL


def piece_bytes(piece: str, alphabet: PieceAlphabet) -> bytes:
    """The bytes of prompt text that one token piece stands for."""
    if alphabet is PieceAlphabet.BYTE_LEVEL:
        table = _byte_level_table()
        # A piece added to the vocabulary by hand is spelt as plain text, spaces and all.
        return b"".join(table.get(letter, letter.encode()) for letter in piece)
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else text_bytes(piece, alphabet)


def text_bytes(text: str, alphabet: PieceAlphabet) -> bytes:
    """The bytes that the pieces of `text` stand for; SentencePiece cannot tell a `▁` in the text from a space."""
    return (text.replace(_METASPACE, " ") if alphabet is PieceAlphabet.SENTENCEPIECE else text).encode()


def token_range(pieces: Sequence[str], text: str, alphabet: PieceAlphabet, search_from: str = "") -> tuple[int, int]:
    """The half-open range of tokens that spell `text`.

    Args:
        pieces: the token pieces of one chunk of the prompt, as `convert_ids_to_tokens` gives them.
        text: what to look for.
        alphabet: how the pieces spell text.
        search_from: the chunk's text up to where the search begins. A match further on is preferred to one inside it,
            so that words of a user's own template are not taken for words of the question.

    Raises:
        QuestionSetAside: the pieces do not spell `text` anywhere, or `text` is empty.
    """
    spelt = [piece_bytes(piece, alphabet) for piece in pieces]
    ends = list(accumulate(map(len, spelt)))
    joined, wanted = b"".join(spelt), text_bytes(text, alphabet)
    # Tokenizers may put a space before the chunk, never take any text away, so the place lies here or further on;
    # those that do rewrite the text (lower-casing, say) get the search over the whole chunk.
    start = joined.find(wanted, len(text_bytes(search_from, alphabet)))
    if start < 0:
        start = joined.find(wanted)
    if start < 0 or not wanted:
        raise QuestionSetAside(f"{text!r} is not in the prompt's text {joined.decode(errors='replace')!r}")
    return (
        _first(ends, lambda end: end > start),
        _first(ends, lambda end: end >= start + len(wanted)) + 1,
    )


def _first(ends: Sequence[int], reached: Callable[[int], bool]) -> int:
    return next(index for index, end in enumerate(ends) if reached(end))


@cache
def _byte_level_table() -> dict[str, bytes]:
    """Letter to byte in the alphabet of GPT-2's byte-level BPE.

    Bytes that Latin-1 prints stand for themselves; the others, in order, are the letters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable} | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}
    return {letter: bytes([byte]) for letter, byte in letters.items()}
