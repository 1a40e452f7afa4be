"""What `--model` names: a directory, or a repository on the Hugging Face hub."""

import re
from pathlib import Path

from xmflow_jax.errors import CheckpointError
from xmflow_jax.machine.home import expanded

# Weights as safetensors, configuration, tokenizer and processor; never pickles (.bin, .pt) or code (.py).
HUB_FILES = ("*.safetensors", "*.json", "*.model", "merges.txt", "vocab.txt")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_source(source: str | Path) -> Path:
    """The local directory of a checkpoint; a hub id is downloaded into the hub's own cache first.

    Raises:
        CheckpointError: no such directory, or the hub has no such repository or cannot be reached.
    """
    path = expanded(source)
    try:
        directory, exists = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long, or in a folder that may not be read
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if directory:
        return path
    if exists:
        raise CheckpointError(f"{path} is a file; expected a checkpoint directory or a hub id")
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        return _download(source)
    raise CheckpointError(f"there is no directory {path}; expected a checkpoint directory or a hub id (owner/name)")


def _download(repository: str) -> Path:
    # Imported here because it takes a while and most runs do not need it.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(HUB_FILES)))
    # Errors of the hub's library, of its HTTP client, of the file system and of the socket, by no common base.
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CheckpointError(
            f"{repository!r} is no directory here, and the Hugging Face hub did not deliver it: {reason}"
        ) from None
