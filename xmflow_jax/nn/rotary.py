"""Rotary positions (Su et al., arXiv 2104.09864) in rotate-half order, and how long-context models stretch them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Cosines and sines of each position's angles.
Rotation = tuple[Float[Array, "*#batch position half"], Float[Array, "*#batch position half"]]

LINEAR: Final = "linear"
LLAMA_3: Final = "llama3"


@dataclass(frozen=True)
class RotaryScaling:
    """Frequencies that are lower than the plain ones, for prompts longer than those of pretraining.

    Source: transformers' `ROPE_INIT_FUNCTIONS`, whose names of kinds and settings these are.

    Attributes:
        kind: LINEAR divides every frequency by `factor`. LLAMA_3 (Llama 3.1) divides the slow ones, those of which
            `original` positions hold fewer than `low` turns; keeps the fast ones, with more than `high`; and goes from
            one to the other between.
        factor: what frequencies are divided by.
        low, high: turns within `original` positions.
        original: positions of pretraining.
    """

    kind: str
    factor: float
    low: float = 1.0
    high: float = 4.0
    original: int = 0

    def scaled(self, frequencies: Float[Array, " half"]) -> Float[Array, " half"]:
        """The frequencies that positions turn with, in radians a position."""
        if self.kind == LINEAR:
            return frequencies / self.factor
        turns = self.original * frequencies / (2 * math.pi)
        # 1 keeps a frequency, 0 divides it by the factor.
        kept = jnp.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        return (1 - kept) * frequencies / self.factor + kept * frequencies


def rotary(
    positions: Int[Array, "*batch position"], head_width: int, theta: float, scaling: RotaryScaling | None = None
) -> Rotation:
    """Cosines and sines of the rotary embedding; None: no scaling."""
    frequencies = 1.0 / theta ** (jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
    if scaling is not None:
        frequencies = scaling.scaled(frequencies)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotary_by_axis(
    ids: Int[Array, "*batch 3 position"],
    sections: Sequence[int],
    head_width: int,
    theta: float,
    interleaved: bool = False,
) -> Rotation:
    """Cosines and sines of positions on three axes, each frequency turned by one of them (M-RoPE, arXiv 2409.12191).

    Args:
        sections: how many frequencies turn with each axis.
        interleaved: the axes take turns, first, second, third, until the second and the third have theirs; the first
            has what is left (Qwen3-VL). Else one section stands behind the other.
    """
    half = head_width // 2
    frequencies = 1.0 / theta ** (jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
    if interleaved:
        number = jnp.arange(half)
        axis = jnp.where(number < 3 * jnp.array(sections)[number % 3], number % 3, 0)
    else:
        axis = jnp.repeat(jnp.arange(3), jnp.array(sections), total_repeat_length=half)
    angles = jnp.moveaxis(ids[..., axis, :], -2, -1).astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "*batch position heads head_width"], rotation: Rotation
) -> Float[Array, "*batch position heads head_width"]:
    """Rotate each pair (x_i, x_{i + half}) of every head by its position's angle."""
    cos, sin = (part[..., None, :].astype(x.dtype) for part in rotation)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
