"""The JSON files that benchmarks are published as: one object a file, up to gigabytes, often cut off in a download."""

import json
from pathlib import Path
from typing import Any

from xmflow_jax.errors import DataError


def read_json_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        DataError: the file is missing, cannot be read, ends too early, is no JSON, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); expected a JSON file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise DataError(f"{path}: the file is empty; expected JSON") from None
        # What is wrong with a text or a word that is cut off is reported where it begins, not at the file's end.
        begun, ended = text.strip().startswith("{"), text.strip().endswith("}")
        if error.pos >= len(text.rstrip()) or (begun and not ended):
            raise DataError(f"{path}: JSON that ends too early, after {len(text)} characters: truncated?") from None
        raise DataError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise DataError(f"{path}: not JSON that can be read: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: holds a JSON {type(document).__name__}; expected an object")
    return document


def counted(some: int, all_of: int, what: str) -> str:
    """`3 of 10 questions`, or `all 10 questions`, for messages."""
    return f"all {all_of} {what}" if some == all_of else f"{some} of {all_of} {what}"
