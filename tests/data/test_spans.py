"""The oracle here is the first study's rule as told in characters, written anew for each kind of tokenizer."""

import string
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from xmflow_jax.data.spans import PieceAlphabet, piece_alphabet, piece_bytes, token_range
from xmflow_jax.errors import QuestionSetAside

CORPUS = [
    "Is the shirt red or blue? On which side of the photo is the curtain?",
    "Answer the question using a single word or phrase. What is common to the category and the cat?",
    "Is there any grass or sand that is not brown? The left one is leftmost in the photo.",
] * 3
SENTENCEPIECE, BYTE_LEVEL = PieceAlphabet.SENTENCEPIECE, PieceAlphabet.BYTE_LEVEL


@cache
def tokenizer_of(alphabet: PieceAlphabet) -> Tokenizer:
    """A small trained BPE of either kind."""
    if alphabet is BYTE_LEVEL:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=380, initial_alphabet=letters, show_progress=False)
    else:
        byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        trainer = trainers.BpeTrainer(
            vocab_size=256 + 180,
            special_tokens=["<unk>", *byte_pieces],
            initial_alphabet=list(string.printable.split()[0]),  # as in Llama: byte pieces for line ends and the like
            show_progress=False,
        )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def pieces_of(text: str, alphabet: PieceAlphabet) -> list[str]:
    return list(tokenizer_of(alphabet).encode(text).tokens)


def study_range(pieces: list[str], text: str, alphabet: PieceAlphabet) -> tuple[int, int]:
    """By the character that each piece begins and ends at; `<0x0A>` counts as its six letters, as in the study."""
    spoken = {"▁": " "} if alphabet is SENTENCEPIECE else {"Ġ": " ", "Ċ": "\n"}
    readable = ["".join(spoken.get(letter, letter) for letter in piece) for piece in pieces]
    owner = [index for index, piece in enumerate(readable) for _ in piece]
    start = "".join(readable).index(text)
    return owner[start], owner[start + len(text) - 1] + 1


WORDS = st.lists(
    st.one_of(
        st.sampled_from(["Is", "the", "cat", "category", "red", "red?", "left", "leftmost", "Answer", "a"]),
        st.text(string.ascii_letters + string.digits + "?!.,'-/", min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("alphabet", PieceAlphabet)
@given(words=WORDS, data=st.data())
def test_ascii_text_gets_the_studys_tokens(alphabet: PieceAlphabet, words: list[str], data: Any) -> None:
    chunk = "\n" + " ".join(words) + " \nAnswer the question using a single word or phrase."
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    wanted = " ".join(words[first : last + 1])
    assume(wanted not in "<0x0A>")
    pieces = pieces_of(chunk, alphabet)
    assert token_range(pieces, wanted, alphabet) == study_range(pieces, wanted, alphabet)


@pytest.mark.parametrize("alphabet", PieceAlphabet)
@given(before=st.text(max_size=12), wanted=st.text(min_size=1, max_size=12), after=st.text(max_size=12))
def test_tokens_of_any_text_cover_it_and_no_token_is_spare(
    alphabet: PieceAlphabet, before: str, wanted: str, after: str
) -> None:
    pieces = pieces_of(f"{before}{wanted}{after}", alphabet)
    first, end = token_range(pieces, wanted, alphabet)

    def spelt(begin: int, stop: int) -> bytes:
        return b"".join(piece_bytes(piece, alphabet) for piece in pieces[begin:stop])

    looked_for = (wanted.replace("▁", " ") if alphabet is SENTENCEPIECE else wanted).encode()
    assert looked_for in spelt(first, end)
    assert looked_for not in spelt(first + 1, end)
    assert looked_for not in spelt(first, end - 1)


@pytest.mark.parametrize("alphabet", PieceAlphabet)
@given(text=st.text(max_size=30))
def test_pieces_spell_the_text(alphabet: PieceAlphabet, text: str) -> None:
    spelt = b"".join(piece_bytes(piece, alphabet) for piece in pieces_of(text, alphabet))
    assert spelt.decode() in (text.replace("▁", " "), " " + text.replace("▁", " "), text)


def test_off_by_one_traps() -> None:
    pieces = ["▁Is", "▁the", "▁sh", "irt", "▁red", "?"]
    assert token_range(pieces, "shirt", SENTENCEPIECE) == (2, 4)  # starts behind its token's space
    assert token_range(pieces, " shirt", SENTENCEPIECE) == (2, 4)
    assert token_range(pieces, "he shi", SENTENCEPIECE) == (1, 4)  # begins and ends inside tokens
    assert token_range(pieces, "red?", SENTENCEPIECE) == (4, 6)  # ends with the last token
    assert token_range(pieces, " Is", SENTENCEPIECE) == (0, 1)
    assert token_range(pieces, "irt", SENTENCEPIECE) == (3, 4)  # begins where a token begins


def test_first_occurrence_may_lie_inside_another_word_as_in_the_study() -> None:
    pieces = ["▁Which", "▁category", ",", "▁cat", "▁or", "▁dog", "?"]
    assert token_range(pieces, "cat", SENTENCEPIECE) == (1, 2)


def test_search_starts_behind_the_templates_own_words() -> None:
    pieces = ["▁Question", ":", "▁Question", "?"]
    assert token_range(pieces, "Question", SENTENCEPIECE) == (0, 1)
    assert token_range(pieces, "Question", SENTENCEPIECE, search_from="Question: ") == (2, 3)


def test_search_falls_back_where_a_tokenizer_shortens_the_text() -> None:
    assert token_range(["is", "▁it"], "is it", SENTENCEPIECE, search_from="   ") == (0, 2)


def test_bytes_and_letters_outside_ascii() -> None:
    pieces = ["▁", "<0x0A>", "O", "<0xC3>", "<0xB9>", "▁est", "?"]
    assert token_range(pieces, "Où est?", SENTENCEPIECE) == (2, 7)
    assert token_range(["O", "Ã", "¹", "Ġest", "?", "ĠĊ"], "Où", BYTE_LEVEL) == (0, 3)
    assert token_range(["<|eot_id|>", "Ġa", "Ċ"], "<|eot_id|> a\n", BYTE_LEVEL) == (0, 3)


@pytest.mark.parametrize("text", ["blue", ""])
def test_text_that_is_not_there_sets_the_question_aside(text: str) -> None:
    with pytest.raises(QuestionSetAside, match="is not in the prompt's text"):
        token_range(["▁red", "<0xC3>"], text, SENTENCEPIECE)


def test_alphabet_is_told_from_the_vocabulary() -> None:
    for alphabet in PieceAlphabet:
        assert piece_alphabet(tokenizer_of(alphabet).get_vocab()) is alphabet
    assert piece_alphabet({"<0x0A>", "Ċ", "Ġ"}) is SENTENCEPIECE
