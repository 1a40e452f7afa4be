"""How curves are named and drawn, the same in every figure and on every page."""

from collections.abc import Iterable
from typing import Final

from xmflow_jax.analysis.curve import Curve
from xmflow_jax.run.row_words import KEEP_ONLY

ARROW: Final = "\N{RIGHTWARDS ARROW}"
NOT_ARROW: Final = "\N{RIGHTWARDS ARROW WITH STROKE}"

# (colour, marker). Okabe and Ito's palette, made for colour-blind readers, without its yellow, which is too faint for
# lines on white. A pathway keeps its look in every figure of every study; the marker tells lines apart in grey print.
_LOOKS: Final = {
    "Image->Question": ("#0072B2", "o"),
    "Image->Last": ("#E69F00", "s"),
    "Question->Last": ("#009E73", "^"),
    "Last->Last": ("#000000", "D"),
    "Image Central Object->Question": ("#D55E00", "v"),
    "Image Without Central Object->Question": ("#56B4E9", "P"),
    "Image->All": ("#CC79A7", "X"),
}
_OTHER_COLOURS: Final = ("#882255", "#999933", "#6A51A3", "#8C564B", "#7F7F7F")
_OTHER_MARKERS: Final = ("<", ">", "p", "*", "h", "d")


def arrow_label(text: str, arrow: str = NOT_ARROW) -> str:
    """`Image->Question` as figures write it: with the arrow struck out, for the way that was blocked."""
    source, between, target = text.partition("->")
    return f"{source.strip()} {arrow} {target.strip()}" if between else text


def curve_label(curve: Curve) -> str:
    """The curve's name as figures write it: `Image ↛ Question`, `only Image → Question (to-end)`."""
    return arrow_label(curve.name, ARROW if curve.kind == KEEP_ONLY else NOT_ARROW)


def curve_looks(subjects: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each curve's subject, in the order of the legend.

    The pathways that the study blocks have looks of their own and come first.
    """
    asked = set(subjects)
    looks = {subject: look for subject, look in _LOOKS.items() if subject in asked}
    for place, subject in enumerate(sorted(asked - _LOOKS.keys())):
        colour = _OTHER_COLOURS[place % len(_OTHER_COLOURS)]
        looks[subject] = (colour, _OTHER_MARKERS[place % len(_OTHER_MARKERS)])
    return looks


def in_legend_order(curves: Iterable[Curve]) -> list[Curve]:
    """The curves in the order of their subjects' looks, those of one subject by mode and window style."""
    curves = sorted(curves)
    order = {subject: place for place, subject in enumerate(curve_looks(curve.subject for curve in curves))}
    return sorted(curves, key=lambda curve: order[curve.subject])
