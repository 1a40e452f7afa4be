"""Where a parameter lies in published tensors, whole and in parts, fused along any axis."""

from itertools import product

import numpy as np
import pytest

from xmflow_jax.weights.rules import AS_IS, CONVOLUTION, CONVOLUTION_3D, LINEAR, VECTOR, Layout, Rule, linear

RULES = [
    Rule("a", ("a",), VECTOR),
    Rule("a", ("a",), VECTOR, part=(2, 3)),
    Rule("a", ("a",), LINEAR),
    Rule("a", ("a",), LINEAR, part=(1, 3), part_axis=0),
    Rule("a", ("a",), LINEAR, part=(1, 3), part_axis=1),
    Rule("a", ("a",), AS_IS, part=(0, 2)),
    Rule("a", ("a",), AS_IS, part=(1, 2), part_axis=0, leading=1),
    Rule("a", ("a",), VECTOR, part=(1, 2), leading=2),
    Rule("a", ("a",), CONVOLUTION),
    Rule("a", ("a",), CONVOLUTION_3D),
    Rule("a", ("a",), CONVOLUTION_3D, part=(1, 2), part_axis=0),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_part_read_by_itself_is_the_part_of_the_whole(rule: Rule) -> None:
    shape = (4, 6, 2, 5, 3)[: len(rule.axes)]
    published = np.arange(np.prod(rule.published_shape(shape))).reshape(rule.published_shape(shape))
    assert published.size == rule.part[1] * np.prod(shape)
    whole = rule.own(published).transpose(rule.axes)
    assert whole.shape == shape
    for halves in product((0, 1), repeat=min(2, len(shape))):
        bounds = tuple(
            (half * (size // 2), size if half else size // 2) for half, size in zip(halves, shape, strict=False)
        ) + tuple((0, size) for size in shape[len(halves) :])
        read = published[rule.published_index(bounds, shape)]
        read = read.reshape(read.shape[rule.leading :]).transpose(rule.axes)
        np.testing.assert_array_equal(read, whole[tuple(slice(*one) for one in bounds)])


def test_the_parts_of_a_fused_linear_layer_are_its_outputs_in_turn() -> None:
    weight, bias = np.arange(24).reshape(6, 4), np.arange(6)
    for index in range(3):
        kernel_rule, bias_rule = linear("qkv", ("q",), bias=True, part=(index, 3))
        np.testing.assert_array_equal(kernel_rule.own(weight).transpose(kernel_rule.axes), weight[2 * index :][:2].T)
        np.testing.assert_array_equal(bias_rule.own(bias), bias[2 * index :][:2])


def test_layers_that_are_not_the_first_ones_in_a_row() -> None:
    assert Rule("layers.*.w", ("w",), VECTOR, layers=2, numbers=(3, 8)).names() == ("layers.3.w", "layers.8.w")
    assert Rule("layers.*.w", ("w",), VECTOR, layers=2).names() == ("layers.0.w", "layers.1.w")
    assert Rule("w", ("w",), VECTOR).names() == ("w",)


def test_a_layout_spells_the_first_beginning_and_the_first_part_that_fit() -> None:
    layout = Layout("hub", {"a.b.": "x.", "a.": "y."}, {".q.": ".query.", ".k.": ".key."})
    assert layout.published("a.b.q.w") == "x.query.w"
    assert layout.published("a.c.k.w") == "y.c.key.w"
    assert layout.published("a.w") == "y.w"
