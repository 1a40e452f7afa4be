"""Files in a checkpoint's directory: JSON objects, and what a broken download leaves in a file's place.

A library that is handed the wrong bytes complains of them in its own words ("header too large"). What is wrong with the
file can mostly be told by looking at it, and at the folder; so that is done first.
"""

import json
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError

# First bytes of what stands in for a file that was not fetched, or of another kind of file under its name.
_POINTER: Final = b"version https://git-lfs.github.com/spec/v1"
_KINDS: Final = (
    (b"PK\x03\x04", "a ZIP archive; PyTorch's pickled weights are one, and are never read"),
    (b"\x80\x02", "a pickle, which is never read"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"GGUF", "weights in GGUF, which are not read; take the checkpoint in Hugging Face format"),
)
# What the hub answers in place of a file, as its whole text or as the "error" of a small JSON object.
_ANSWERS: Final = ("Entry not found", "Repository not found", "Invalid username or password", "Access to model")
_LOOKED_AT: Final = 512

# Bytes; the library reads no longer header.
_LONGEST_HEADER: Final = 100_000_000

# Beside unfinished downloads: where the hub's client keeps them, seen from the folder or from a cache's snapshot.
_UNFINISHED: Final = ("*.incomplete", ".cache/huggingface/download/**/*.incomplete", "../../blobs/*.incomplete")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: the file is missing, unreadable, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_one_of_each)
    except FileNotFoundError:
        refuse_broken(path)
        raise CheckpointError(f"{path} is missing") from None
    # RecursionError: brackets within brackets by the thousand.
    except (OSError, ValueError, RecursionError) as error:
        refuse_broken(path)
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a JSON {type(content).__name__}; expected an object")
    if isinstance(content.get("error"), str) and len(content) <= 3:
        raise CheckpointError(f"{path} holds a server's answer, not the file: {content['error']!r}; fetch it again")
    return content


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, none of whose keys has two values: readers differ in which of them counts.

    Raises:
        ValueError: one has.
    """
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content and content[key] != value:
            raise ValueError(f"the key {key[:60]!r} has two values")
        content[key] = value
    return content


def refuse_broken(path: Path) -> None:
    """Do nothing for a file that looks like one, or that is simply not there.

    Raises:
        CheckpointError: something else stands in the file's place: a git-lfs pointer, nothing, a web page, a server's
            answer, another kind of file; or its download is not finished.
    """
    try:
        if not path.exists():
            _refuse_missing(path)
            return
        if not path.is_file():
            raise CheckpointError(f"{path} is a folder; expected a file")
        with path.open("rb") as file:
            start, size = file.read(_LOOKED_AT), path.stat().st_size
    except OSError:  # told by whoever reads the file
        return
    _refuse_stand_in(path, start, size)
    for magic, kind in _KINDS:
        if start.startswith(magic):
            raise CheckpointError(f"{path} is damaged: it is {kind}")
    needed = _safetensors_bytes(path, start, size) if path.suffix == ".safetensors" else size
    if size < needed:
        raise CheckpointError(f"{path} is damaged: it is cut short, {size} of {needed} bytes; fetch it again")


def _refuse_missing(path: Path) -> None:
    """Why a file is not there, where its folder tells."""
    if path.is_symlink():
        raise CheckpointError(
            f"{path} is a link to {path.readlink()}, which is not there; copy the folder with its links followed"
        )
    for pattern in _UNFINISHED:
        for found in sorted(path.parent.glob(pattern)):
            if "/" in pattern or found.name.startswith(path.name):
                raise CheckpointError(f"{path} is missing, and {found} is an unfinished download; run it again")


def _refuse_stand_in(path: Path, start: bytes, size: int) -> None:
    """Refuse what a download leaves in place of a file."""
    if start.startswith(_POINTER):
        words = start.decode(errors="replace").split()
        stored = words[words.index("size") + 1] if "size" in words[:-1] else "?"
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the file: its {stored} bytes were not fetched; run git lfs install and "
            "git lfs pull in its folder, or download the checkpoint again"
        )
    if not start.strip(b"\0 \r\n\t"):
        seen = "it begins with nothing but zeros" if size else "it is empty"
        raise CheckpointError(f"{path} is damaged: {seen}; fetch it again")
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    if text[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise CheckpointError(
            f"{path} is damaged: it is a web page saved under that name; fetch the file itself, not the page about it"
        )
    if size < _LOOKED_AT and text.decode(errors="replace").startswith(_ANSWERS):
        answer = text.decode(errors="replace").strip()
        raise CheckpointError(f"{path} holds a server's answer, not the file: {answer!r}; fetch it again")


def _safetensors_bytes(path: Path, start: bytes, size: int) -> int:
    """How many bytes a safetensors file should have, as far as its header tells: a length in 8 bytes, then JSON."""
    length = int.from_bytes(start[:8], "little")
    if size > 8 and (start[8:9] != b"{" or length > _LONGEST_HEADER):
        return size  # those bytes are no length
    if size < 8 + length:
        return 8 + length
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(8 + length)[8:])
        ends = [int(one["data_offsets"][1]) for key, one in header.items() if key != "__metadata__"]
    # Whatever else is wrong with the header, the library says.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return size
    return 8 + length + max(ends, default=0)
