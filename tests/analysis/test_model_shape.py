"""Costs against a count position by position, and against the study's own operation counts."""

from dataclasses import replace

import numpy as np
import pytest

from xmflow_jax.analysis.model_shape import ModelShape, saving
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.knockout.costs import model_costs
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.load import ModelIdentity

SHAPE = ModelShape(
    layers=5, width=24, heads=4, kv_heads=2, head_width=6, mlp_width=40, image_positions=7, text_positions=9
)
CROSSING = replace(SHAPE, cross_attention_layers=(1, 3))


def counted(shape: ModelShape, unread: set[int]) -> tuple[int, int, int]:
    """Every product of numbers, twice, one layer and one position after the other; bytes of keys and values."""
    attention = mlp = memory = 0
    for layer in range(shape.layers):
        crossing = layer in shape.cross_attention_layers
        prompt_has_image = not shape.cross_attention_layers and layer not in unread
        positions = shape.text_positions + (shape.image_positions if prompt_has_image else 0)
        query_numbers, key_numbers = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        for position in range(positions):
            mlp += shape.mlp_matrices * 2 * shape.width * shape.mlp_width
            if crossing and layer in unread:
                continue
            attention += 2 * 2 * shape.width * query_numbers  # query and output
            sources = shape.image_positions if crossing else position + 1
            attention += 2 * 2 * query_numbers * sources  # logits and weighted values
        key_positions = 0 if crossing and layer in unread else shape.image_positions if crossing else positions
        attention += key_positions * 2 * 2 * shape.width * key_numbers
        memory += key_positions * 2 * key_numbers * shape.number_bytes
    return attention, mlp, memory


@pytest.mark.parametrize(
    ("shape", "unread"),
    [(SHAPE, {3, 4}), (SHAPE, set(range(5))), (SHAPE, set()), (CROSSING, {3}), (CROSSING, {1}), (CROSSING, {1, 3})],
)
def test_savings_are_those_counted_one_by_one(shape: ModelShape, unread: set[int]) -> None:
    found = saving(shape, unread)
    parts = (found.attention_operations, found.mlp_operations, found.key_value_bytes)
    assert tuple(part.before for part in parts) == counted(shape, set())
    assert tuple(part.after for part in parts) == counted(shape, unread)
    for part in parts:
        assert part.share == pytest.approx((part.before - part.after) / part.before)


def test_a_pass_costs_what_the_studys_own_count_says() -> None:
    vision = ClipVisionConfig(14, 14, width=4, mlp_width=4, layers=1, heads=1)
    text = LlamaConfig(layers=5, width=24, heads=4, kv_heads=2, head_width=6, mlp_width=40, vocabulary=50)
    net = ModelIdentity(LLAVA, LlavaConfig(vision, text, image_token=49), "float32", "").net
    block = model_costs(net, np.zeros((1, 14, 14, 3), np.float32)).stacks[-1].blocks[0]
    found = saving(SHAPE, ())
    assert found.attention_operations.before + found.mlp_operations.before == 5 * block.rows(
        np.arange(1, 17), outside=0
    )


def test_cross_attention_leaves_the_mlp_alone() -> None:
    assert saving(CROSSING, (1, 3)).mlp_operations.share == 0
    assert saving(CROSSING, (1, 3)).key_value_bytes.share == pytest.approx(14 / (14 + 27))


def test_layers_that_cannot_go_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\] are not the last of 5 layers"):
        saving(SHAPE, (1, 2))
    with pytest.raises(ValueError, match=r"\[2\] are not all cross-attention layers \(1, 3\)"):
        saving(CROSSING, (2,))
