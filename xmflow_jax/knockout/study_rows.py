"""A study's configurations as its rows name them: one for each pathway, window style, layer, control and head."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xmflow_jax.knockout.actions import MASK, TOGETHER, Knockout, block, matched_control, only_head
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.windows import CENTRED, window_layers


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
    layers: int,
    width: int,
    mode: str = MASK,
    heads: Iterable[int] | None = None,
    cross_attention: bool = False,
    controls: int = 0,
    seed: int = 0,
    single_heads: Iterable[int] = (),
) -> tuple[StudyRow, ...]:
    """One configuration for each pathway, style and layer, in this order; `cross_attention` as for `block`.

    Args:
        controls: so many matched controls follow behind each pathway and style, in the same windows.
        seed: of their draws.
        single_heads: heads that are blocked alone as well, in the same windows; their rows follow behind the controls.
    """
    single_heads = tuple(single_heads)
    heads = None if heads is None else tuple(heads)
    rows = []
    for pathway, style in pathways:
        own = []
        for layer in range(layers):
            blocked = window_layers(style, layer, width, layers)
            window = width if style == CENTRED else len(blocked)
            own.append(StudyRow(pathway, style, layer, window, block(pathway, blocked, mode, heads, cross_attention)))
        rows += own
        for draw in range(1, controls + 1):
            drawn = [matched_control(row.knockout, draw, seed, cross_attention) for row in own]
            rows += [replace(row, knockout=one, control=draw) for row, one in zip(own, drawn, strict=True)]
        for head in single_heads:
            rows += [replace(row, knockout=only_head(row.knockout, head), head=head) for row in own]
    return tuple(rows)
