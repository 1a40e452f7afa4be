"""What the report's page shows of one run, as JSON values; `xmflow_jax.report.page.pages` makes the page of it.

Numbers are those of the tables, unrounded; NaN is null. Every text is plain text: nothing here is markup.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from xmflow_jax.analysis.critical import layer_ranges, ranges_text
from xmflow_jax.analysis.curve import CURVE, Curve, curves_of, of_curve
from xmflow_jax.analysis.findings import findings
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.analysis.pruning import PATHWAY, TO_END
from xmflow_jax.analysis.question_matrix import ALL_TASKS
from xmflow_jax.analysis.recommendation import Recommendation, recommendation_json
from xmflow_jax.measures.measure import Measure
from xmflow_jax.measures.registry import MEASURES, is_measured
from xmflow_jax.report.figures.answer_tracking import BROKEN, LOOKS
from xmflow_jax.report.figures.looks import curve_label, curve_looks, in_legend_order
from xmflow_jax.report.page.questions import questions_data
from xmflow_jax.report.run_content import RunContent
from xmflow_jax.run.record import COMMAND_KEY, PASSED_OVER_KEY, PROMPT_KEY
from xmflow_jax.run.row_words import EDGES
from xmflow_jax.run.schemas import NOT_SELECTED, SET_ASIDE, TRACKED, TRACKED_LABELS

# Set-aside questions that are told one by one; `run.json` has them all.
TOLD_SET_ASIDE: Final = 200


def run_data(
    content: RunContent,
    summary: pd.DataFrame,
    recommendation: Recommendation | None,
    tracking: pd.DataFrame | None,
    heads: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """One run's page.

    Args:
        content: of the run folder.
        summary: of its rows, with those of all tasks together, under `All tasks`, where there are several tasks.
        recommendation: None where there are no rows.
        tracking: what `track_answers` returned; None where there are no lens rows.
        heads: what `summarize_heads` returned.
    """
    shape = content.shape
    layers = shape.layers if shape is not None else int(summary["layer"].max()) + 1 if len(summary) else 0
    found = None if recommendation is None else json.loads(recommendation_json(recommendation))
    return {
        "name": content.folder.absolute().name,
        "model": _text(content, "model", "name"),
        "template": _text(content, "template", "name"),
        "data": ", ".join(_part(content, "data")) or None,
        "vouched": [] if content.record is None else _told_vouched(content.record["configuration"]),
        "damage": list(content.damage),
        "progress": _progress(content),
        "findings": [] if recommendation is None else _findings(recommendation),
        "layers": layers,
        "cross_attention_layers": list(_told(shape)),
        "questions_answered": len(content.rows[["task", "question_id"]].drop_duplicates()),
        "confidence": None if recommendation is None else recommendation.resampling.confidence,
        "tau": None if recommendation is None else recommendation.tau,
        "subjects": list(curve_looks(curve.subject for curve in curves_of(summary))),
        "measures": [
            {
                "key": one.key,
                "label": one.label,
                "unit": one.unit,
                "axis": one.axis,
                "digits": one.digits,
                "harm": one.harm,
            }
            for one in MEASURES
            if is_measured(one, summary)
        ],
        "curves": curves_data(summary, content.rows),
        "heads": [] if heads is None else heads_data(heads),
        "critical": [] if found is None else [_ranges(one) for one in found["critical"]],
        "stages": [] if found is None else found["stages"],
        "pruning_curve": {"kind": EDGES, "pathway": PATHWAY, "style": TO_END},
        "pruning": None if found is None else found["pruning"],
        "words": [{"word": word, "broken": LOOKS[word][1] == BROKEN} for word in TRACKED],
        "tracking": [] if tracking is None else _tracking(tracking),
        "questions": questions_data(content),
        "set_aside": _set_aside(content),
        "run": None if content.record is None else _made(content.record),
    }


def curves_data(summary: pd.DataFrame, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Every curve of the summary, all tasks together first, pathways in the order of the figures' legend."""
    if summary.empty:
        return []
    curves = []
    for task, here in summary.groupby("task", sort=True):
        for curve in in_legend_order(curves_of(here)):
            own, windows = of_curve(here, curve), of_curve(rows, curve)["window"]
            narrow, wide = int(windows.min()), int(windows.max())
            curves.append(
                {
                    "task": task,
                    **curve_data(curve),
                    "window": wide if narrow == wide else None,
                    "layer": own["layer"].tolist(),
                    "critical": own["critical"].astype(bool).tolist(),
                    "measures": _measures(own),
                }
            )
    return sorted(curves, key=lambda one: one["task"] != ALL_TASKS)


def curve_data(curve: Curve) -> dict[str, str]:
    """What tells a curve from others: the fields of `Curve`, its subject, whose look it has, and its label."""
    return {**curve._asdict(), "subject": curve.subject, "label": curve_label(curve)}


def heads_data(heads: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every task's curves one for each head that was blocked alone; all tasks together first."""
    maps = []
    for (task, *about), own in heads.groupby(["task", *CURVE], sort=True):
        curves = [
            {
                "head": head,
                "label": f"head {head}",
                "layer": curve["layer"].tolist(),
                "critical": curve["critical"].astype(bool).tolist(),
                "measures": _measures(curve),
            }
            for head, curve in own.groupby("head", sort=True)
        ]
        maps.append({"task": task, **curve_data(Curve(*map(str, about))), "curves": curves})
    return sorted(maps, key=lambda one: one["task"] != ALL_TASKS)


def unfinished(progress: Mapping[str, Any]) -> str:
    """A sentence about how far a run has come, empty where it is finished or its record does not tell."""
    finished, planned = progress["finished"], progress["planned"]
    if planned is None or finished >= planned:
        return ""
    return f"The run is not finished: {finished} of {planned} questions are done. The same command goes on from there."


def plain_numbers(values: Iterable[Any]) -> list[Any]:
    """Numbers as JSON has them: null for what is not finite."""
    return [None if value is None or not math.isfinite(value) else float(value) for value in values]


def _measures(curve: pd.DataFrame) -> dict[str, Any]:
    return {measure.key: _measure(curve, measure) for measure in MEASURES if is_measured(measure, curve)}


def _measure(curve: pd.DataFrame, measure: Measure) -> dict[str, Any]:
    numbers = {
        "value": measure.key,
        "low": measure.low,
        "high": measure.high,
        "p": measure.p_holm,
        "control": measure.control,
        "over_control": measure.over_control,
        "over_control_low": f"{measure.over_control}_low",
        "over_control_high": f"{measure.over_control}_high",
    }
    found = {name: plain_numbers(curve[column]) for name, column in numbers.items() if column in curve}
    kept = {name: own for name, own in found.items() if name == "value" or any(one is not None for one in own)}
    return {"n": curve[measure.number].astype(int).tolist(), **kept}


def _ranges(critical: Mapping[str, Any]) -> dict[str, Any]:
    about = curve_data(Curve(*(critical[name] for name in CURVE)))
    return {**critical, **about, "ranges": ranges_text(layer_ranges(critical["layers"]))}


def _findings(recommendation: Recommendation) -> list[dict[str, str]]:
    """Each sentence by the name of its subject, cut at its colon: what it is about, and what was found."""
    parts = [(name, line.partition(": ")) for name, line in asdict(findings(recommendation)).items()]
    return [{"name": name, "title": title, "text": text[:1].upper() + text[1:]} for name, (title, _, text) in parts]


def _told(shape: ModelShape | None) -> tuple[int, ...]:
    """Cross-attention layers to mark; where all layers are, that says nothing."""
    if shape is None or len(shape.cross_attention_layers) == shape.layers:
        return ()
    return shape.cross_attention_layers


def _tracking(tracking: pd.DataFrame) -> list[dict[str, Any]]:
    curves = []
    for (task, normed, word), own in tracking.groupby(["task", "normed", "word"], sort=True):
        own = own.sort_values("layer")
        curves.append(
            {
                "task": task,
                "normed": bool(normed),
                "word": word,
                "label": TRACKED_LABELS[str(word)],
                "layer": own["layer"].astype(int).tolist(),
                "n": own["n"].astype(int).tolist(),
                **{
                    name: plain_numbers(own[column])
                    for name, column in {"value": "probability", "low": "low", "high": "high"}.items()
                },
            }
        )
    return sorted(curves, key=lambda one: (one["task"], one["normed"], TRACKED.index(one["word"])))


def _progress(content: RunContent) -> dict[str, Any]:
    """How far the run has come; `planned` is null where the record does not tell."""
    planned = content.planned
    return {"finished": content.finished, "planned": None if planned is None else sum(planned.values())}


def _set_aside(content: RunContent) -> dict[str, Any]:
    aside = content.skipped[content.skipped["kind"] == SET_ASIDE]
    unselected = content.skipped[content.skipped["kind"] == NOT_SELECTED]
    answered = content.rows[["task", "question_id"]].drop_duplicates()
    tasks = sorted({*aside["task"], *unselected["task"], *answered["task"]})
    counts = [
        {"task": task, **{name: int((table["task"] == task).sum()) for name, table in tables.items()}}
        for tables in [{"answered": answered, "set_aside": aside, "not_selected": unselected}]
        for task in tasks
    ]
    told = aside.head(TOLD_SET_ASIDE)[["question_id", "task", "reason"]]
    return {"counts": counts, "questions": told.to_dict("records"), "more": len(aside) - len(told)}


# Parts of a run's configuration that have a title of their own.
_TITLED: Final = frozenset({"model", "vouched", "data", "template", "pathways"})


def _vouched(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keys of the model's config.json that a person took responsibility for, with their values."""
    return _mapping(configuration.get("vouched"))


def _told_vouched(configuration: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_words(value)}" for key, value in _vouched(configuration).items()]


def _made(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How the run was made: titled lists of (name, text)."""
    configuration, session = record["configuration"], (record["sessions"] or [{}])[-1]
    rest = {key: value for key, value in configuration.items() if key not in _TITLED}
    pathways = sorted({one for own in _mapping(configuration.get("pathways")).values() for one in own})
    groups: list[tuple[str, Mapping[str, Any]]] = [
        ("Command", {"command": session.get(COMMAND_KEY)}),
        ("Model", _mapping(configuration.get("model"))),
        ("Keys of config.json that are not understood, and that someone vouched for", _vouched(configuration)),
        ("Keys of config.json that were passed over", _mapping(session.get(PASSED_OVER_KEY))),
        ("Data, with SHA-256", _mapping(configuration.get("data"))),
        ("Prompt template", {**_mapping(configuration.get("template")), "chosen": session.get(PROMPT_KEY)}),
        ("Pathways, with window styles and widths", {"pathways": ", ".join(_styles(pathways))}),
        ("Settings", rest),
        ("Versions of the last session", _mapping(session.get("versions"))),
        ("Machine of the last session", {key: session.get(key) for key in ("backend", "devices", "batch_size")}),
        (
            "Sessions",
            {
                f"started {one.get('started', 'at an unknown time')}": f"{one.get('finished_before', 0)} questions done"
                for one in record["sessions"]
            },
        ),
        ("Record", {"configuration_sha256": record["configuration_sha256"]}),
    ]
    told = [
        (title, [[str(name), _words(value)] for name, value in own.items() if value is not None])
        for title, own in groups
    ]
    return [{"title": title, "entries": entries} for title, entries in told if entries]


def _styles(pathways: Iterable[str]) -> list[str]:
    """`Image->All@to-end:12`, `...:11`, ... as `Image->All@to-end:1-12`."""
    widths: dict[str, set[int]] = {}
    for one in pathways:
        name, colon, width = one.rpartition(":")
        widths.setdefault(name if colon and width.isdecimal() else one, set()).update(
            [int(width)] if colon and width.isdecimal() else []
        )
    return [f"{name}:{ranges_text(layer_ranges(own))}" if own else name for name, own in widths.items()]


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return json.dumps(value, ensure_ascii=False)


def _part(content: RunContent, name: str) -> Mapping[str, Any]:
    return {} if content.record is None else _mapping(content.record["configuration"].get(name))


def _text(content: RunContent, part: str, name: str) -> str | None:
    value = _part(content, part).get(name)
    return None if value is None else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
