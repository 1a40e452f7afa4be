"""The columns of a run folder's tables: what each holds, in which unit, and what makes a row unique."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from xmflow_jax.measures.measure import Column
from xmflow_jax.measures.registry import MEASURES

_TYPES: Final = {int: pa.int32(), float: pa.float64(), str: pa.string()}


def _schema(
    required: Mapping[str, pa.DataType], nullable: Mapping[str, pa.DataType] = MappingProxyType({})
) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    return pa.schema([*fields, *(pa.field(name, kind) for name, kind in nullable.items())])


# The columns that measures fill, each described where its measure is.
MEASURED: Final[Mapping[str, Column]] = MappingProxyType(
    {column.name: column for measure in MEASURES for column in measure.columns}
)


def _measured(nullable: bool) -> dict[str, pa.DataType]:
    return {name: _TYPES[one.kind] for name, one in MEASURED.items() if one.nullable == nullable}


ROW_SCHEMA: Final = _schema(
    {
        "question_id": pa.string(),
        "image_id": pa.string(),
        "task": pa.string(),
        "kind": pa.string(),  # of knockout: EDGES, KEEP_ONLY or OUTPUT (`row_words`)
        "mode": pa.string(),  # what became of the edges or the output: `mask`, `zero`
        "pathway": pa.string(),  # of outputs site and role, such as `self:Image`
        "style": pa.string(),
        "layer": pa.int32(),
        "window": pa.int32(),
        "control": pa.int32(),  # 0: the pathway itself; 1 and up: the draws of its matched control
        "head": pa.int32(),  # the one head blocked; -1: all that the study asks for, together
        "gold": pa.string(),
        "base_answer": pa.string(),
        "knockout_answer": pa.string(),
        **_measured(nullable=False),
    },
    {
        **_measured(nullable=True),
        "control_overlap": pa.float64(),  # of a control's edges with its pathway's, 0 to 1; null for the pathway itself
    },
)

SET_ASIDE: Final = "set_aside"  # the question could not be used: no image, not found in the prompt, ...
NOT_SELECTED: Final = "not_selected"  # `--select` left it out, usually because the base run answered wrongly

SKIPPED_SCHEMA: Final = _schema(
    {
        "question_id": pa.string(),
        "task": pa.string(),
        "kind": pa.string(),  # SET_ASIDE or NOT_SELECTED
        "reason": pa.string(),
        "base_answer": pa.string(),  # empty where there was no base run
    }
)

# The words of answer tracking, as people are told them: their columns hold probabilities, or nothing where there is no
# such word.
TRACKED_LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "answer_prob": "Answer",
        "answer_capital_prob": "Answer, capitalised",
        "false_option_prob": "False option",
        "false_option_capital_prob": "False option, capitalised",
    }
)
TRACKED: Final = tuple(TRACKED_LABELS)

LENS_SCHEMA: Final = pa.schema(
    [
        *_schema(
            {
                "question_id": pa.string(),
                "task": pa.string(),
                "layer": pa.int32(),  # after which the base run is read; -1 is the embedding
                "normed": pa.bool_(),  # through the final norm
                "answer": pa.string(),  # the base run's, in lower case
            }
        ),
        pa.field("answer_prob", pa.float64()),  # of the first token of `answer`
        pa.field("answer_capital_prob", pa.float64()),
        pa.field("false_option", pa.string()),
        pa.field("false_option_prob", pa.float64()),
        pa.field("false_option_capital_prob", pa.float64()),
        pa.field("top_words", pa.list_(pa.string()), nullable=False),  # the most probable first
        pa.field("top_probs", pa.list_(pa.float64()), nullable=False),
    ]
)

# What the report shows of single questions, of which it has neither image nor prompt: a few of each task.
CARD_SCHEMA: Final = _schema(
    {
        "question_id": pa.string(),
        "task": pa.string(),
        "text": pa.string(),  # the question as asked
        "image": pa.binary(),  # PNG, small; what the model sees, without marks; empty where it could not be read again
        "patch_rows": pa.int32(),
        "patch_columns": pa.int32(),
        "object_patches": pa.list_(pa.int32()),  # counted row by row
        "padding_patches": pa.list_(pa.int32()),
        "tokens": pa.list_(pa.string()),  # of the prompt; all of an image's positions are one
        "token_roles": pa.list_(pa.list_(pa.string())),
    }
)

# An evaluation's rows: a question's answer with nothing blocked.
ANSWER_SCHEMA: Final = pa.schema(
    [
        *_schema({"question_id": pa.string(), "image_id": pa.string()}),
        pa.field("shown_image_id", pa.string()),  # another question's where images are shuffled, null where blank
        pa.field("task", pa.string(), nullable=False),
        pa.field("question_type", pa.string()),  # the benchmark's own groups, where it has any
        pa.field("answer_type", pa.string()),
        *_schema({"gold": pa.string(), "answer": pa.string()}),
        pa.field("score", pa.float64()),  # 0 to 1; null where the benchmark keeps its answers back
        pa.field("scorer", pa.string(), nullable=False),  # the rule that gave it
    ]
)

# The kinds of part: the first word of their file names, with their columns, the folder within the run folder that holds
# them and nothing else, and what makes a row unique. A run has rows or an evaluation's answers, never both.
SCHEMAS: Final = {
    "part": ROW_SCHEMA,
    "skipped": SKIPPED_SCHEMA,
    "lens": LENS_SCHEMA,
    "cards": CARD_SCHEMA,
    "answers": ANSWER_SCHEMA,
}
FOLDERS: Final = {
    "part": "results",
    "skipped": "skipped",
    "lens": "lens",
    "cards": "cards",
    "answers": "results",
}
KEYS: Final = {
    "part": ["task", "question_id", "kind", "mode", "pathway", "style", "layer", "control", "head"],
    "skipped": ["task", "question_id"],
    "lens": ["task", "question_id", "layer", "normed"],
    "cards": ["task", "question_id"],
    "answers": ["task", "question_id"],
}
