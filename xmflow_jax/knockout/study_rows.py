"""A study's configurations as its rows name them: one for each pathway, window style, layer, control and head."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xmflow_jax.knockout.actions import (
    TOGETHER,
    Knockout,
    attending_sites,
    block,
    matched_control,
    only_head,
    pathway_site,
)
from xmflow_jax.knockout.modes import MASK
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.windows import CENTRED, window_layers
from xmflow_jax.nn.interfaces import Anatomy


@dataclass(frozen=True)
class StudyRow:
    """What a result row says about its configuration; `window` is the option's width for centred windows, and the
    number of blocked layers for the other styles; `control` is 0 for the pathway itself, and the draw's number for one
    of its matched controls; `head` is the one head that is blocked, or TOGETHER where all that are asked for are."""

    pathway: Pathway
    style: str
    layer: int
    window: int
    knockout: Knockout
    control: int = 0
    head: int = TOGETHER


def pathway_study(
    pathways: Iterable[tuple[Pathway, str]],
    anatomy: Anatomy,
    width: int,
    mode: str = MASK,
    heads: Iterable[int] | None = None,
    controls: int = 0,
    seed: int = 0,
    single_heads: Iterable[int] = (),
) -> tuple[StudyRow, ...]:
    """One configuration for each pathway, style and layer of the main stack, in this order.

    Args:
        anatomy: of the model, which says at which site a pathway's edges are.
        width: of centred windows.
        controls: so many matched controls follow behind each pathway and style, in the same windows.
        seed: of their draws.
        single_heads: heads that are blocked alone as well, in the same windows; their rows follow behind the controls.
    """
    single_heads = tuple(single_heads)
    heads = None if heads is None else tuple(heads)
    layers, sites = anatomy.main.layers, attending_sites(anatomy, anatomy.main.name)
    rows = []
    for pathway, style in pathways:
        own, site = [], pathway_site(pathway, anatomy)
        for layer in range(layers):
            blocked = window_layers(style, layer, width, layers)
            window = width if style == CENTRED else len(blocked)
            own.append(StudyRow(pathway, style, layer, window, block(pathway, blocked, mode, heads, site)))
        rows += own
        for draw in range(1, controls + 1):
            drawn = [matched_control(row.knockout, draw, seed, sites) for row in own]
            rows += [replace(row, knockout=one, control=draw) for row, one in zip(own, drawn, strict=True)]
        for head in single_heads:
            rows += [replace(row, knockout=only_head(row.knockout, head), head=head) for row in own]
    return tuple(rows)
