"""Which tokens end an answer."""

from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.json_files import read_json_object

# Where transformers' `generate` finds them; published checkpoints need not have it.
GENERATION_FILE: Final = "generation_config.json"

# Ends of a turn of chat formats. Checkpoints of LLaVA with Llama 3 name the end of a text in their files, but their
# answers end with the end of the turn; behind it the next turn's header would be read as part of the answer.
TURN_ENDS: Final = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<end_of_utterance>")


def find_end_tokens(tokenizer: Any, directory: Path) -> tuple[int, ...]:
    """Ids that end an answer, the tokenizer's own first: its end of a sequence, those of `generation_config.json`, and
    the special tokens that end a turn.

    Args:
        tokenizer: of transformers.
        directory: of the checkpoint.

    Raises:
        CheckpointError: the tokenizer has no end of a sequence, or the file cannot be used.
    """
    if tokenizer.eos_token_id is None:
        raise CheckpointError(
            f"{directory}: the tokenizer has no token that ends an answer; expected eos_token in tokenizer_config.json"
        )
    special = {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    turns = [special[turn] for turn in TURN_ENDS if turn in special]
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *_of_generation(directory / GENERATION_FILE), *turns]))


def _of_generation(path: Path) -> list[int]:
    """What the file names: one id, several, or none."""
    if not path.is_file():
        return []
    named = read_json_object(path).get("eos_token_id")
    found = named if isinstance(named, list) else [] if named is None else [named]
    for one in found:
        if not isinstance(one, int) or isinstance(one, bool) or one < 0:
            raise CheckpointError(f"{path}: eos_token_id is {named!r}; expected a token's id, or a list of ids")
    return found
