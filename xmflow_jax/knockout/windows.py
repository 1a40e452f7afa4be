"""The one window rule: in which layers a pathway is blocked for the configuration at layer l.

Source of `centred`: the released code of arXiv 2411.18620, `max(0, l - k // 2)` to `min(L, l + ceil(k / 2))`, the end
not included. An even width k therefore reaches one layer further down than up: it blocks k layers, not k + 1.
"""

from typing import Final

from xmflow_jax.errors import OptionError

CENTRED: Final = "centred"
FROM_START: Final = "from-start"
TO_END: Final = "to-end"
SINGLE: Final = "single"
STYLES: Final = (CENTRED, FROM_START, TO_END, SINGLE)


def parse_style(text: str) -> str:
    """The window style that `text` names.

    Raises:
        OptionError: there is no such style.
    """
    style = text.strip().lower()
    if style not in STYLES:
        raise OptionError(f"unknown window style {text.strip()!r}; the styles are: {', '.join(STYLES)}")
    return style


def window_layers(style: str, layer: int, width: int, layers: int) -> range:
    """The layers blocked by the configuration at `layer` of a model with `layers` layers.

    `centred`: `width` layers around `layer`; `from-start`: 0 to `layer`, it included; `to-end`: `layer` to the last;
    `single`: `layer` alone. Only `centred` uses the width.

    Raises:
        OptionError: the style is unknown, or the width is not between 1 and the number of layers.
    """
    if style == CENTRED:
        if not 1 <= width <= layers:
            raise OptionError(f"window {width} is not between 1 and the model's {layers} layers")
        return range(max(0, layer - width // 2), min(layers, layer - (-width // 2)))
    if style == FROM_START:
        return range(layer + 1)
    if style == TO_END:
        return range(layer, layers)
    return range(layer, layer + 1) if parse_style(style) == SINGLE else range(0)


def default_width(layers: int) -> int:
    """9 from 32 layers up, as the study; 5 from 10 layers; else 3, or all layers where there are fewer."""
    return 9 if layers >= 32 else 5 if layers >= 10 else min(3, layers)
