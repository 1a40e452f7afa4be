"""What reading the image costs a language model, from its plain numbers, and what leaving it out saves.

Operations are those of one prompt's pass, a multiplication and an addition counted as two, attention causally:
position t reads t + 1 positions. Embedding, image encoder and output head are left out: they stay.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """A language model and one prompt.

    Attributes:
        layers: all blocks, cross-attention blocks included.
        width: of the residual stream.
        heads, kv_heads, head_width: of attention.
        mlp_width: of the MLP's hidden layer.
        image_positions: of the prompt; for cross-attention models, the visual keys that it reads.
        text_positions: all others.
        mlp_matrices: 3 for gated MLPs, else 2.
        number_bytes: of one cached key or value number.
        cross_attention_layers: the blocks that read the image by cross-attention; empty for models that have the image
            in their prompt.
        both_attentions: those blocks have self-attention as well; else cross-attention stands in its place.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    image_positions: int
    text_positions: int
    mlp_matrices: int = 3
    number_bytes: int = 2
    cross_attention_layers: tuple[int, ...] = ()
    both_attentions: bool = False


@dataclass(frozen=True)
class Saved:
    """One quantity of one prompt: without and with the image left out, and the share (0 to 1) that this saves."""

    before: int
    after: int
    share: float


@dataclass(frozen=True)
class Saving:
    """Operations of attention (its projections included) and of MLPs, and bytes of cached keys and values."""

    attention_operations: Saved
    mlp_operations: Saved
    key_value_bytes: Saved


def saving(shape: ModelShape, unread: Iterable[int]) -> Saving:
    """What is saved if the image is not read in some layers.

    Where the image is in the prompt these must be the last layers (from one layer to the end): its positions are then
    dropped from there on. Of cross-attention layers any may be among them: their attention is skipped, their MLP stays.

    Raises:
        ValueError: the layers are not the last ones, or are none of the cross-attention layers.
    """
    skipped = set(unread)
    if shape.cross_attention_layers:
        if not skipped <= set(shape.cross_attention_layers):
            raise ValueError(f"{sorted(skipped)} are not all cross-attention layers {shape.cross_attention_layers}")
    elif skipped != set(range(shape.layers - len(skipped), shape.layers)):
        raise ValueError(f"{sorted(skipped)} are not the last of {shape.layers} layers: dropped positions stay dropped")
    before, after = _layer_costs(shape, set()), _layer_costs(shape, skipped)
    parts = [Saved(b, a, 1 - a / b if b else 0.0) for b, a in zip(before, after, strict=True)]
    return Saving(*parts)


def _layer_costs(shape: ModelShape, skipped: set[int]) -> tuple[int, int, int]:
    """Attention operations, MLP operations, key-value bytes of all layers."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    attention = mlp = memory = 0
    for layer in range(shape.layers):
        if layer in shape.cross_attention_layers:
            positions = shape.text_positions
            if layer not in skipped:
                attention += 4 * shape.width * (positions * queries + shape.image_positions * keys)
                attention += 4 * queries * positions * shape.image_positions
                memory += 2 * keys * shape.number_bytes * shape.image_positions
        if layer not in shape.cross_attention_layers or shape.both_attentions:
            has_image = not shape.cross_attention_layers and layer not in skipped
            positions = shape.text_positions + (shape.image_positions if has_image else 0)
            attention += 4 * shape.width * positions * (queries + keys)
            attention += 4 * queries * (positions * (positions + 1) // 2)
            memory += 2 * keys * shape.number_bytes * positions
        mlp += 2 * shape.mlp_matrices * shape.width * shape.mlp_width * positions
    return attention, mlp, memory
