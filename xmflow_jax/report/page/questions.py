"""What the report's page shows of single questions: each with its image, its tokens' roles and its own curves."""

import base64
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from xmflow_jax.analysis.curve import curves_of, of_curve
from xmflow_jax.analysis.question_matrix import pathway_rows
from xmflow_jax.report.figures.looks import curve_label, in_legend_order
from xmflow_jax.report.run_content import RunContent
from xmflow_jax.run.schemas import TRACKED
from xmflow_jax.study.question_card import SHOWN_QUESTIONS

# Numbers of single questions are told to so many places: they carry no interval, and there are many.
PLACES: Final = 6
# Words per layer that are told of the lens.
TOP_WORDS: Final = 5


def questions_data(content: RunContent, limit: int = SHOWN_QUESTIONS) -> list[dict[str, Any]]:
    """At most `limit` questions that have both a card and rows, evenly over the tasks, sorted by task.

    A run that kept no cards shows the questions that it has rows of all the same, without image and tokens.
    """
    rows = pathway_rows(content.rows)
    known = content.cards if len(content.cards) else rows
    chosen = _chosen(known[["task", "question_id"]].drop_duplicates(), limit)
    keys = pd.MultiIndex.from_tuples(chosen, names=["task", "question_id"])

    def of_chosen(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
        own = table[pd.MultiIndex.from_frame(table[["task", "question_id"]]).isin(keys)] if len(table) else table
        return {(str(task), str(one)): part for (task, one), part in own.groupby(["task", "question_id"], sort=False)}

    own_rows, cards, lens = of_chosen(rows), of_chosen(content.cards), of_chosen(content.lens)
    return [
        _question(key, own_rows[key], cards[key].iloc[0] if key in cards else None, lens.get(key))
        for key in chosen
        if key in own_rows
    ]


def _chosen(questions: pd.DataFrame, limit: int) -> list[tuple[str, str]]:
    """In turns, the first of every task, then the second of every task, until there are enough."""
    turns = questions.groupby("task", sort=True).cumcount()
    taken = questions.assign(turn=turns).sort_values(["turn", "task"], kind="stable").head(limit)
    ordered = taken.sort_values(["task", "turn"], kind="stable")
    return [(str(task), str(one)) for task, one in zip(ordered["task"], ordered["question_id"], strict=True)]


def _question(
    key: tuple[str, str], rows: pd.DataFrame, card: "pd.Series[Any] | None", lens: pd.DataFrame | None
) -> dict[str, Any]:
    first = rows.iloc[0]
    return {
        "task": key[0],
        "question_id": key[1],
        "gold": first["gold"],
        "base_answer": first["base_answer"],
        "base_prob": _number(first["base_prob"]),
        "card": None if card is None else _card(card),
        "curves": list(_curves(rows)),
        "lens": [] if lens is None else list(_lens(lens)),
    }


def _card(card: "pd.Series[Any]") -> dict[str, Any]:
    image = base64.b64encode(card["image"]).decode()
    return {
        "text": card["text"],
        "image": f"data:image/png;base64,{image}" if image else None,
        "rows": int(card["patch_rows"]),
        "columns": int(card["patch_columns"]),
        "objects": [int(one) for one in card["object_patches"]],
        "padding": [int(one) for one in card["padding_patches"]],
        "tokens": [[text, list(own)] for text, own in zip(card["tokens"], card["token_roles"], strict=True)],
    }


def _curves(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for curve in in_legend_order(curves_of(rows)):
        own = of_curve(rows, curve)
        yield {
            **curve._asdict(),
            "subject": curve.subject,
            "label": curve_label(curve),
            "layer": own["layer"].tolist(),
            "prob": [_number(value) for value in own["knockout_prob"]],
            "answer": own["knockout_answer"].tolist(),
            "right": [_number(value) for value in own["knockout_score"]],
        }


def _lens(lens: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Raw and normed, the layers in order; `null` where a word has no probability."""
    for normed, own in lens.groupby("normed", sort=True):
        own = own.sort_values("layer")
        yield {
            "normed": bool(normed),
            "layer": own["layer"].tolist(),
            "words": {word: [_number(value) for value in own[word]] for word in TRACKED if own[word].notna().any()},
            "top": [
                [[word, _number(prob)] for word, prob in zip(words[:TOP_WORDS], probs[:TOP_WORDS], strict=True)]
                for words, probs in zip(own["top_words"], own["top_probs"], strict=True)
            ],
        }


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else round(float(value), PLACES)
