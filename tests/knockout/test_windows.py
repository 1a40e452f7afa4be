"""The window rule against the study's own expression and by cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.windows import STYLES, default_width, parse_style, window_layers


@given(st.integers(1, 48).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1), st.integers(1, n))))
def test_centred_is_the_studys_expression(case: tuple[int, int, int]) -> None:
    layers, layer, width = case
    theirs = list(range(max(0, layer - width // 2), min(layers, layer - (-width // 2))))
    assert list(window_layers("centred", layer, width, layers)) == theirs


@pytest.mark.parametrize(
    ("style", "layer", "width", "blocked"),
    [
        ("centred", 5, 3, [4, 5, 6]),
        ("centred", 5, 4, [3, 4, 5, 6]),  # even: one more below than above, four layers and not five
        ("centred", 0, 5, [0, 1, 2]),
        ("centred", 9, 5, [7, 8, 9]),
        ("from-start", 2, 5, [0, 1, 2]),
        ("to-end", 7, 5, [7, 8, 9]),
        ("single", 4, 5, [4]),
    ],
)
def test_windows_by_hand(style: str, layer: int, width: int, blocked: list[int]) -> None:
    assert list(window_layers(style, layer, width, 10)) == blocked


@pytest.mark.parametrize("width", [0, -1, 11])
def test_a_width_the_model_does_not_have_is_refused(width: int) -> None:
    with pytest.raises(OptionError, match=f"window {width} is not between 1 and the model's 10 layers"):
        window_layers("centred", 3, width, 10)


def test_styles_are_parsed_and_unknown_ones_refused() -> None:
    assert [parse_style(f" {style.upper()} ") for style in STYLES] == list(STYLES)
    with pytest.raises(OptionError, match="'sideways'"):
        parse_style("sideways")
    with pytest.raises(OptionError, match="'sideways'"):
        window_layers("sideways", 0, 1, 4)


def test_default_widths() -> None:
    assert [default_width(n) for n in (2, 4, 9, 10, 31, 32, 40)] == [2, 3, 3, 5, 5, 9, 9]
