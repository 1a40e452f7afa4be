"""The rerun's page: one HTML file with each model's figures, and the table of published shapes."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from experiments.study.figures import FIGURES
from experiments.study.shapes import Outcome, Shape

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { border: 1px solid #bbb; padding: .3rem .6rem; }
td { text-align: center; } td:first-child, th:first-child { text-align: left; } small { color: #666; }
.reproduced { background: #d7f0dc; } .not { background: #f6d5d5; } .open { background: #eee; }
img { max-width: 100%; } .stand-in { background: #fff3cd; padding: .6rem 1rem; }
@media (prefers-color-scheme: dark) { img { background: white; } }
"""
_CLASSES: Final = {"reproduced": "reproduced", "not reproduced": "not", "not decidable": "open"}


@dataclass(frozen=True)
class ModelPart:
    """What the page shows of one model.

    Attributes:
        name: of the model.
        line: of its run, for people.
        outcomes: (shape, outcome by task); a task that cannot have the shape is absent.
        figures: PNG files by name (`figures.FIGURES`), and answer tracking.
        report: the run's own report, relative to the page.
    """

    name: str
    line: str
    outcomes: Sequence[tuple[Shape, Mapping[str, Outcome]]]
    figures: Mapping[str, Path]
    report: str


def write_page(path: Path, parts: Sequence[ModelPart], tasks: Sequence[str], stand_in: bool) -> None:
    """Write the page; it loads nothing from elsewhere, but links to the runs' own reports beside it."""
    notice = (
        '<p class="stand-in">Stand-in: random weights of small width in the models\' layouts, drawn scenes. '
        "The curves and outcomes mean nothing; they show that the recipe runs.</p>"
        if stand_in
        else ""
    )
    body = "".join(_part(part, tasks) for part in parts)
    title = "Cross-modal information flow: the study rerun"
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>Zhang et al., arXiv 2411.18620. Bands are 95 % intervals over images.</p>"
        f"{notice}{body}</body></html>\n"
    )
    path.write_text(text, encoding="utf-8")


def _part(part: ModelPart, tasks: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(task)}</th>" for task in tasks)
    rows = "".join(_row(shape, by_task, tasks) for shape, by_task in part.outcomes)
    captions = {name: caption for name, caption, _ in FIGURES} | {"answer_tracking": "The answer, layer by layer"}
    figures = "".join(
        f'<figure><figcaption>{html.escape(captions[name])}</figcaption><img alt="{html.escape(captions[name])}" '
        f'src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"></figure>'
        for name, file in part.figures.items()
    )
    return (
        f"<h2>{html.escape(part.name)}</h2><p>{html.escape(part.line)} "
        f'<a href="{html.escape(part.report)}">The run\'s own report</a>.</p>'
        f"<table><tr><th>Published shape</th>{head}</tr>{rows}</table>{figures}"
    )


def _row(shape: Shape, by_task: Mapping[str, Outcome], tasks: Sequence[str]) -> str:
    cells = "".join(
        f'<td class="{_CLASSES[by_task[task]]}">{by_task[task]}</td>' if task in by_task else "<td>–</td>"
        for task in tasks
    )
    return f"<tr><td>{html.escape(shape.text)}<br><small>{html.escape(shape.source)}</small></td>{cells}</tr>"
