"""What `--model` names: a directory, or a repository on the Hugging Face hub."""

import os
import re
from pathlib import Path

from xmflow_jax.errors import CheckpointError
from xmflow_jax.machine.home import expanded

# Weights as safetensors, configuration, tokenizer and processor; never pickles (.bin, .pt) or code (.py).
HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt")

# Where a checkpoint lies in a folder that is one or two levels too high: the hub's cache, a trainer's output, others.
BELOW = ("snapshots/*/config.json", "checkpoint-*/config.json", "*/config.json")
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
        refuse_no_checkpoint(path)
        return path
    if exists:
        raise CheckpointError(f"{path} is a file; expected a checkpoint directory or a hub id")
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        return _download(source)
    raise CheckpointError(f"there is no directory {path}; expected a checkpoint directory or a hub id (owner/name)")


def refuse_no_checkpoint(directory: Path) -> None:
    """Do nothing for a directory with a configuration, or with nothing that would tell what it is instead.

    Raises:
        CheckpointError: the checkpoint lies in a folder below, as in the hub's cache; or it is an adapter alone.
    """
    if os.path.lexists(directory / "config.json"):
        return
    if (directory / "adapter_config.json").exists():
        raise CheckpointError(
            f"{directory} holds an adapter (adapter_config.json), not a model; merge it into its model once with peft: "
            "merge_and_unload(), then save_pretrained(folder)"
        )
    below = list(dict.fromkeys(path.parent for pattern in BELOW for path in sorted(directory.glob(pattern))))
    if below:
        more = f" (and {len(below) - 1} more like it)" if len(below) > 1 else ""
        raise CheckpointError(f"{directory} holds no config.json; {below[0]} does{more}: give that folder")


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
