"""Critical layers of a summary, curve by curve."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from xmflow_jax.analysis.curve import CURVE, Curve


@dataclass(frozen=True)
class CriticalLayers:
    """One task's curve of one kind, mode, pathway and window style.

    Attributes:
        layers: the critical ones.
        peak_layer: where accuracy falls most, critical or not; the first of equals.
        delta_accuracy: percentage points there, with the ends of its interval (None below two questions).
        n: questions there.
        images: that these are about.
    """

    task: str
    kind: str
    mode: str
    pathway: str
    style: str
    layers: tuple[int, ...]
    peak_layer: int
    delta_accuracy: float
    low: float | None
    high: float | None
    n: int
    images: int

    @property
    def curve(self) -> Curve:
        """What the curve is about."""
        return Curve(self.kind, self.mode, self.pathway, self.style)


def critical_layers(summary: pd.DataFrame) -> tuple[CriticalLayers, ...]:
    """Every curve of the summary (`summarize`), in its order, with its critical layers."""
    curves = []
    for (task, *about), curve in summary.groupby(["task", *CURVE], sort=True):
        peak = curve.sort_values(["delta_accuracy", "layer"], ascending=[False, True]).iloc[0]
        low, high = peak["delta_accuracy_low"], peak["delta_accuracy_high"]
        curves.append(
            CriticalLayers(
                task=str(task),
                **Curve(*map(str, about))._asdict(),
                layers=tuple(sorted(int(layer) for layer in curve.loc[curve["critical"].astype(bool), "layer"])),
                peak_layer=int(peak["layer"]),
                delta_accuracy=float(peak["delta_accuracy"]),
                low=None if pd.isna(low) else float(low),
                high=None if pd.isna(high) else float(high),
                n=int(peak["n"]),
                images=int(peak["images"]),
            )
        )
    return tuple(curves)


def layer_ranges(layers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Runs of consecutive layers as (first, last), in order."""
    ranges: list[tuple[int, int]] = []
    for layer in sorted(set(layers)):
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], layer)
        else:
            ranges.append((layer, layer))
    return tuple(ranges)


def ranges_text(ranges: Iterable[tuple[int, int]]) -> str:
    """`0-4, 7` (with dashes between numbers)."""
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in ranges)
