"""A study's configurations as its rows name them: one for each pathway, window style, layer, control and head."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from xmflow_jax.knockout.actions import (
    TOGETHER,
    Knockout,
    attending_sites,
    block,
    keep_only,
    matched_control,
    only_head,
    pathway_site,
    zero_output,
)
from xmflow_jax.knockout.modes import MASK, ZERO
from xmflow_jax.knockout.output_places import SUBLAYERS, OutputPlace
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.windows import CENTRED, window_layers
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.run.row_words import EDGES, KEEP_ONLY, OUTPUT


@dataclass(frozen=True)
class StudyRow:
    """What a result row says about its configuration.

    Attributes:
        pathway: whose edges are blocked or, in `keep-only` rows, kept; in `output` rows the output's place.
        window: the option's width for centred windows, and the number of blocked layers for the other styles.
        control: 0 for the pathway itself, and the draw's number for one of its matched controls.
        head: the one head that is blocked, or TOGETHER where all that are asked for are.
        kind: EDGES, KEEP_ONLY or OUTPUT.
        mode: what becomes of the edges, or of the output.
    """

    pathway: Pathway | OutputPlace
    style: str
    layer: int
    window: int
    knockout: Knockout
    control: int = 0
    head: int = TOGETHER
    kind: str = EDGES
    mode: str = MASK


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
        mode: what becomes of the edges.
        heads: that are blocked together; None: all.
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
        for layer, window, blocked in _windows(style, width, layers):
            knockout = block(pathway, blocked, mode, heads, site)
            own.append(StudyRow(pathway, style, layer, window, knockout, mode=mode))
        rows += own
        for draw in range(1, controls + 1):
            drawn = [matched_control(row.knockout, draw, seed, sites) for row in own]
            rows += [replace(row, knockout=one, control=draw) for row, one in zip(own, drawn, strict=True)]
        for head in single_heads:
            rows += [replace(row, knockout=only_head(row.knockout, head), head=head) for row in own]
    return tuple(rows)


def keep_only_study(pathways: Iterable[tuple[Pathway, str]], anatomy: Anatomy, width: int) -> tuple[StudyRow, ...]:
    """One configuration for each pathway, style and layer, in which all edges but the pathway's are blocked.

    Args:
        anatomy: of the model.
        width: of centred windows.
    """
    return tuple(
        StudyRow(pathway, style, layer, window, keep_only(pathway, kept, anatomy), kind=KEEP_ONLY)
        for pathway, style in pathways
        for layer, window, kept in _windows(style, width, anatomy.main.layers)
    )


def output_study(places: Iterable[tuple[OutputPlace, str]], layers: int, width: int) -> tuple[StudyRow, ...]:
    """One configuration for each output, style and layer, in which the output is set to zero.

    Args:
        layers: of the model.
        width: of centred windows.
    """
    return tuple(
        StudyRow(
            *(place, style, layer, window, zero_output(SUBLAYERS[place.sublayer], place.role, zeroed)),
            kind=OUTPUT,
            mode=ZERO,
        )
        for place, style in places
        for layer, window, zeroed in _windows(style, width, layers)
    )


def _windows(style: str, width: int, layers: int) -> Iterator[tuple[int, int, range]]:
    """(layer, what a row says of the window, the window's layers) of every layer."""
    for layer in range(layers):
        blocked = window_layers(style, layer, width, layers)
        yield layer, width if style == CENTRED else len(blocked), blocked
