"""Which sources a position sees while nothing is blocked: causal attention, blocks, sliding windows.

A target sees a source that is not behind it, and every position that carries the same block number (above 0):

    block 0 0 1 1 1 0        target 0   x . . . . .
                             target 1   x x . . . .
                             target 2   x x x x x .
                             target 3   x x x x x .
                             target 4   x x x x x .
                             target 5   x x x x x x

So one rule gives a causal decoder (no blocks), images whose positions see each other (a block each), a prompt that sees
all of itself (one block) and an encoder (one block, nothing behind it). A sliding window of `span` takes the sources
from `target - span` down away, but not those of the target's own block, unless it is a `StrictSpan`:

    StrictSpan(2)            target 0   x . . . . .
                             target 1   x x . . . .
                             target 2   . x x x x .
                             target 3   . . x x x .
                             target 4   . . . x x .
                             target 5   . . . . x x
"""

from typing import Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.nn.attention import attend, for_each_head
from xmflow_jax.nn.interfaces import Span, StrictSpan

# Rows that `self_attend` takes at a time.
CAUSAL_BLOCK: Final = 256


def within(behind: Int[Array, "..."], span: Span) -> Bool[Array, "..."]:
    """Whether sources that stand so far before their targets are in the targets' sliding window."""
    return behind < (span.length if isinstance(span, StrictSpan) else span)


def sees(
    target: Int[Array, "*#batch target"],
    source: Int[Array, "*#batch source"],
    span: Span | None = None,
    target_block: Int[Array, "*#batch target"] | None = None,
    source_block: Int[Array, "*#batch source"] | None = None,
) -> Bool[Array, "... target source"]:
    """Which sources each target sees, both told by their positions in the prompt.

    Args:
        span: of a sliding window; None: there is none.
        target_block, source_block: their block numbers; None: there are no blocks.
    """
    behind = target[..., :, None] - source[..., None, :]
    seen = behind >= 0
    if span is not None:
        seen &= within(behind, span)
    if target_block is not None and source_block is not None:
        own = (target_block[..., :, None] == source_block[..., None, :]) & (target_block[..., :, None] > 0)
        seen |= own & within(behind, span) if isinstance(span, StrictSpan) else own
    return seen


def causal_mask(length: int) -> Bool[Array, "target source"]:
    """Which source each target sees where there are no blocks::

    target 0   x . . .
    target 1   x x . .
    target 2   x x x .
    target 3   x x x x
    """
    return jax.lax.iota(int, length)[:, None] >= jax.lax.iota(int, length)[None, :]


def self_attend(
    query: Float[Array, "batch position heads head_width"],
    key: Float[Array, "batch position kv_heads head_width"],
    value: Float[Array, "batch position kv_heads head_width"],
    scale: float,
    blocks: Int[Array, "batch position"] | None = None,
    span: Span | None = None,
    softcap: float | None = None,
    rows: int = CAUSAL_BLOCK,
) -> Float[Array, "batch position heads head_width"]:
    """A prompt's attention to itself with nothing blocked, some rows at a time.

    Where there are no blocks, sources behind a run of rows are skipped: a long prompt costs little more than half of
    it. Equal to `attend` with the mask that `sees` gives.
    """
    batch, length, heads, width = query.shape
    kv_heads = key.shape[2]

    def one_head(query: Array, key: Array, value: Array) -> Array:
        outputs = []
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            until = stop if blocks is None else length
            targets, sources = jnp.arange(start, stop), jnp.arange(until)
            if blocks is None:
                seen = sees(targets, sources, span)[None, None]
            else:
                seen = sees(targets, sources, span, blocks[:, start:stop], blocks)[:, None]
            own = (query[:, start:stop], key[:, :until, None], value[:, :until, None])
            outputs.append(attend(*own, scale, seen, softcap=softcap))
        return jnp.concatenate(outputs, axis=1)

    grouped = jnp.moveaxis(query.reshape(batch, length, kv_heads, heads // kv_heads, width), 2, 0)
    attended = for_each_head(one_head, grouped, jnp.moveaxis(key, 2, 0), jnp.moveaxis(value, 2, 0))
    return jnp.moveaxis(attended, 0, 2).reshape(batch, length, heads, width)
