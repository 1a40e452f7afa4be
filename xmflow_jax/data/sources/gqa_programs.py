"""What a GQA question is about, read from its program: the study's task, the objects, and the options it names.

Sources: GQA's question files, whose `semantic` field is a list of operations (Hudson and Manning, CVPR 2019, arXiv
1902.09506), and the six question files released with arXiv 2411.18620, which name the detailed type of every row.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# The study's six tasks by GQA's detailed question type.
_STUDY_TASK: Final = {
    "chooseAttr": "ChooseAttr",
    "materialChoose": "ChooseAttr",
    "typeChoose": "ChooseAttr",
    "activityChoose": "ChooseAttr",
    "objThisChoose": "ChooseCat",
    "categoryThisChoose": "ChooseCat",
    "categoryThatChoose": "ChooseCat",
    "positionQuery": "QueryAttr",
    "existThatOr": "LogicalObj",
    "existThatOrC": "LogicalObj",
    "relChooser": "ChooseRel",
    "twoCommon": "CompareAttr",
}

# `chalkboard (0)`, `mud (-) `, `_,hanging above,s (12)`; several ids are separated by commas.
_REFERENCE: Final = re.compile(r"^(?P<name>.*?)\s*\((?P<ids>[\d,\s-]*)\)\s*$")
# The part of a relation that both wordings of a question share: `in front of` may be asked as `in front or behind`.
_RELATION: Final = re.compile(r"^(?:to the |in )?(.*?)(?: of)?$")


@dataclass(frozen=True)
class Reference:
    """An object that a program names: `ids` are the scene graph's, none where the image shows no such object."""

    name: str
    ids: tuple[str, ...]


def task_of_types(types: Mapping[str, str]) -> str:
    """The study's task of a question with these `types`, else `type_name`; `gqa` of a question without types."""
    return _STUDY_TASK.get(types.get("detailed", "")) or type_name(types) or "gqa"


def type_name(types: Mapping[str, str]) -> str | None:
    """A question's structural and semantic type, such as `verify rel`; None where the file tells neither."""
    return " ".join(types[key] for key in ("structural", "semantic") if key in types) or None


def references(program: Sequence[Mapping[str, Any]]) -> tuple[Reference, ...]:
    """The objects that a program selects or relates, in its order."""
    found: dict[Reference, None] = {}
    for step in program:
        match = _REFERENCE.match(str(step.get("argument", "")))
        if match:
            name = match["name"].split(",")[0].strip()
            ids = tuple(part.strip() for part in match["ids"].split(",") if part.strip() not in ("", "-"))
            found[Reference(name, ids)] = None
    return tuple(found)


def options(program: Sequence[Mapping[str, Any]], answer: str) -> tuple[str, str] | None:
    """(true, false) option, as the question words them, of a program that ends by choosing between two.

    None where it does not, or where the answer is not one of them.
    """
    last = program[-1] if program else {}
    if not str(last.get("operation", "")).startswith("choose"):
        return None
    argument = str(last.get("argument", ""))
    if last["operation"] == "choose rel":
        parts = argument.split(",")
        argument = parts[1] if len(parts) == 3 else ""
        argument, answer = ("|".join(map(_relation, part.split("|"))) for part in (argument, answer))
    words = [part.strip() for part in argument.split("|")]
    if len(words) != 2 or answer not in words:
        return None
    return (words[0], words[1]) if words[0] == answer else (words[1], words[0])


def _relation(words: str) -> str:
    return _RELATION.sub(r"\1", words.strip())
