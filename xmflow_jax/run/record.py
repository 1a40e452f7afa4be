"""`run.json`: which run a folder holds, and whether it may be resumed with the options given now."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import RunFolderError
from xmflow_jax.run.parts import PLACES

# Where a session's entry in `run.json` holds the fields of its `ModelShape`, how many questions each task has, the
# command that started it, which keys of the model's config.json were passed over, with the reasons, and which prompt
# was taken, and why.
SHAPE_KEY: Final = "model_shape"
PLANNED_KEY: Final = "questions"
COMMAND_KEY: Final = "command"
PASSED_OVER_KEY: Final = "passed_over"
PROMPT_KEY: Final = "prompt"


def configuration_digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of the configuration as canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """The content of `run.json`, or None where there is none.

    Raises:
        RunFolderError: it cannot be read, is not a run's, or its configuration was edited.
    """
    path = Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        intact = record["configuration_sha256"] == configuration_digest(record["configuration"])
        if not (isinstance(record["configuration"], dict) and isinstance(record["sessions"], list)):
            raise TypeError
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path} does not describe a run of this program; give a new folder") from error
    if not intact:
        raise RunFolderError(f"{path} was edited: its configuration and configuration_sha256 disagree")
    return dict(record)


def refuse_other_content(folder: Path, configuration: Mapping[str, Any]) -> None:
    """Do nothing for a folder that is new or holds a run with this very configuration.

    Raises:
        RunFolderError: the folder holds a run with another configuration (the message names the first keys that
            differ, with both values), a `run.json` that is not a run's, or results without one.
    """
    record = read_record(folder)
    if record is None:
        for name in (*PLACES, "figures"):
            inner = folder / name
            try:
                taken = inner.exists() and not (inner.is_dir() and not any(inner.iterdir()))
            except OSError as error:
                raise RunFolderError(f"cannot read {inner}: {error.strerror}") from error
            if taken:
                raise RunFolderError(f"{inner} is there but {folder} has no run.json; give a new folder")
    elif record["configuration_sha256"] != configuration_digest(configuration):
        there, here = _leaves(record["configuration"]), _leaves(configuration)
        differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
        shown = [_difference(key, there.get(key, "absent"), here.get(key, "absent")) for key in differing[:3]]
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise RunFolderError(
            f"{folder} holds a run with another configuration: {'; '.join(shown)}{more}; "
            "give the same options to resume it, or a new folder"
        )


def _leaves(value: Any, name: str = "") -> dict[str, str]:
    """A nested JSON value's leaves by their dotted names: `{"mesh": {"data": 4}}` gives `{"mesh.data": "4"}`."""
    if isinstance(value, dict) and value:
        return {
            key: leaf
            for inner, content in value.items()
            for key, leaf in _leaves(content, f"{name}.{inner}" if name else inner).items()
        }
    return {name: json.dumps(value, ensure_ascii=False, sort_keys=True)}


def _difference(key: str, there: str, here: str, width: int = 60) -> str:
    # Long values (prompt templates) are shown around the first character that differs, not from their equal start.
    pairs = enumerate(zip(there, here, strict=False))
    first = next((place for place, (one, other) in pairs if one != other), min(len(there), len(here)))
    start = max(0, first - width // 2)

    def excerpt(text: str) -> str:
        if len(there) <= width and len(here) <= width:
            return text
        return ("…" if start else "") + text[start : start + width] + ("…" if len(text) > start + width else "")

    return f"{key} is {excerpt(there)} there, {excerpt(here)} here"
