"""The report's pages: one HTML file each, which loads nothing and needs nothing beside it.

What comes from data sets reaches the page in two ways only: as JSON, in which no character can end its element, from
where scripts put it into text nodes; and escaped, in the few sentences that are there without scripts. The page's
policy allows its own script and style, by their digests, and images within the file; everything else is refused.
"""

import base64
import colorsys
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from xmflow_jax.report.figures.looks import curve_looks
from xmflow_jax.report.page.data import unfinished

_FOLDER: Final = "assets"
_RUN_SCRIPTS: Final = ("chart.js", "measures.js", "heat.js", "run.js", "recommendation.js", "questions.js")
_COMPARISON_SCRIPTS: Final = ("chart.js", "measures.js", "comparison.js")

# Lightness (0 to 1) that a line has at least on a dark page.
_DARK_LIGHTNESS: Final = 0.62


def run_page(data: Mapping[str, Any]) -> str:
    """The page of one run.

    Args:
        data: `xmflow_jax.report.page.data.run_data`.
    """
    parts = [
        data["model"] and f"model {data['model']}",
        data["data"] and f"data {data['data']}",
        data["template"] and f"prompt {data['template']}",
        _counted(data["questions_answered"]),
    ]
    values = {
        "title": _escaped(f"Attention knockout: {data['name']}"),
        "subtitle": _escaped(" · ".join(part for part in parts if part)),
        "notices": _notices(data),
        "findings": _findings(data["findings"]),
    }
    return _page(_filled("run.html", values), values["title"], data, data["subjects"], _RUN_SCRIPTS)


def comparison_page(data: Mapping[str, Any]) -> str:
    """The page of several runs.

    Args:
        data: `xmflow_jax.report.comparison.comparison_data`.
    """
    names = [run["name"] for run in data["runs"]]
    told = [f"<h3>{_escaped(run['name'])}</h3>{_findings(run['findings'])}" for run in data["runs"]]
    values = {
        "title": _escaped(f"Attention knockout: {len(names)} runs compared"),
        "subtitle": _escaped(" · ".join(names)),
        "notices": "".join(_notices(run, f"{run['name']}: ") for run in data["runs"]),
        "findings": "".join(told),
    }
    return _page(_filled("comparison.html", values), values["title"], data, data["subjects"], _COMPARISON_SCRIPTS)


def data_text(data: Any) -> str:
    """JSON that can stand in any HTML element: markup's characters, line ends that are none in JSON, and bytes of names
    that are no UTF-8 are spelt out."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _page(body: str, title: str, data: Mapping[str, Any], subjects: Sequence[str], scripts: Iterable[str]) -> str:
    looks = curve_looks(subjects)
    shown = {**data, "looks": {one: {"place": place, "marker": looks[one][1]} for place, one in enumerate(looks)}}
    style = _colours([colour for colour, _ in looks.values()]) + _read("page.css")
    script = "(() => {\n" + "\n".join(map(_read, scripts)) + "\n})();"
    return _filled(
        "shell.html",
        {
            "policy": f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
            f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'",
            "title": title,
            "style": style,
            "body": body,
            "data": data_text(shown),
            "script": script,
        },
    )


def _notices(data: Mapping[str, Any], lead: str = "") -> str:
    """What is missing, or rests on somebody's word, above everything else."""
    told = [f"Missing or damaged: {sentence}." for sentence in data["damage"]]
    if vouched := data.get("vouched"):
        told.append(
            "Keys of the model's config.json are not understood; who ran this vouched that the model computes the same "
            f"without them: {', '.join(vouched)}."
        )
    if sentence := unfinished(data["progress"]):
        told.append(sentence)
    if not data["questions_answered"]:
        told.append("No question has rows, so there is nothing to find.")
    return "".join(f'<p class="notice">{_escaped(lead + sentence)}</p>' for sentence in told)


def _findings(told: Iterable[Mapping[str, str]]) -> str:
    return "".join(
        f'<div class="finding" data-finding="{_escaped(one["name"])}">'
        f"<h3>{_escaped(one['title'])}</h3><p>{_unbroken(one['text'])}</p></div>"
        for one in told
    )


def _unbroken(text: str) -> str:
    """Escaped, with arrows that no line ends within: browsers break `->` behind its hyphen."""
    return _escaped(text).replace("-&gt;", '<span class="arrow">-&gt;</span>')


def _counted(questions: int) -> str:
    return f"{questions} question{'' if questions == 1 else 's'}"


def _filled(name: str, values: Mapping[str, str]) -> str:
    """The template with its places filled, in one pass: what is put in is not searched for places."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _read(name))


def _read(name: str) -> str:
    return files(__package__).joinpath(_FOLDER, name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    return html.escape(re.sub("[\ud800-\udfff]", "\ufffd", str(text)), quote=True)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _colours(colours: Sequence[str]) -> str:
    """The curves' colours as custom properties, lighter where the page is dark, but not on paper."""
    light = "".join(f"--c{place}:{colour};" for place, colour in enumerate(colours))
    dark = "".join(f"--c{place}:{_lighter(colour)};" for place, colour in enumerate(colours))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _lighter(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    mixed = colorsys.hls_to_rgb(hue, max(lightness, _DARK_LIGHTNESS), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)
