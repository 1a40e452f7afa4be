"""Answers that departed from their draft, decoded on: each with its own configuration in force, in few static shapes.

Departed answers are few, so they are not worth a trie. A tile is a prompt with a few of its departed configurations:
all of them read the prompt's prefix as one operand, as in the suffix passes. The rows of prompt and draft run once
more, from the first layer that any of a call's tiles blocks anything in, and leave keys and values; then one token
after the other, from the first departure on.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Int

from xmflow_jax.knockout.arrays import Positions, Switches
from xmflow_jax.knockout.split import to_host
from xmflow_jax.knockout.suffix import BaseRun, recomputed_block, rows_from
from xmflow_jax.knockout.suffix_attention import Rows
from xmflow_jax.models.layers import layer_slice, split_blocks

Tree = Any

# Departed answers of a call, and the most of one prompt's and the most prompts among them. For a batch of some size it
# is one shape, since every shape is another program.
AT_ONCE: Final = 32
MOST_SLOTS: Final = 8
MOST_TILES: Final = 8


class Tiles(NamedTuple):
    """Some prompts of a batch, each with a few configurations, its slots.

    Attributes:
        prompt: rows of the batch.
        config: of the study.
        tokens: the answers as far as they are known.
        known: how many of their tokens are.
    """

    prompt: Int[np.ndarray, " tile"]
    config: Int[np.ndarray, "tile slot"]
    tokens: Int[np.ndarray, "tile slot step"]
    known: Int[np.ndarray, "tile slot"]


def build_tiles(
    departed: Bool[np.ndarray, "batch config"],
    tokens: Int[np.ndarray, "batch config step"],
    known: Int[np.ndarray, "batch config"],
    first_layer: Int[np.ndarray, " config"],
    slots: int,
) -> Tiles:
    """The departed answers as tiles, sorted by where they departed and then by their first layer; a slot that is left
    over repeats its neighbour.

    Args:
        first_layer: in which each configuration blocks anything.
    """
    prompts: list[int] = []
    configs = []
    for row, own in enumerate(departed):
        of_prompt = np.flatnonzero(own)
        of_prompt = of_prompt[np.lexsort((first_layer[of_prompt], known[row, of_prompt]))]
        for begin in range(0, len(of_prompt), slots):
            some = of_prompt[begin : begin + slots]
            prompts.append(row)
            configs.append(np.pad(some, (0, slots - len(some)), mode="edge"))
    prompt, config = np.array(prompts, np.int32), np.array(configs, np.int32).reshape(-1, slots)
    order = np.lexsort((first_layer[config[:, 0]], known[prompt, config[:, 0]]))
    prompt, config = prompt[order], config[order]
    at = prompt[:, None], config
    return Tiles(prompt, config, tokens[at], known[at].astype(np.int32))


def take_tiles(tiles: Tiles, first: int, size: int, answers: Int[np.ndarray, "batch config step"]) -> Tiles:
    """`size` tiles from `first` on; the last one fills up what is missing, and where there is none, a tile whose
    answers are known to their end.

    Args:
        answers: of all prompts, as far as they are known.
    """
    if not len(tiles.prompt):
        slots, steps = tiles.config.shape[1], answers.shape[2]
        nothing = np.zeros((size, slots), np.int32)
        return Tiles(nothing[:, 0], nothing, answers[nothing, nothing], nothing + steps)
    chosen = np.minimum(np.arange(first, first + size), len(tiles.prompt) - 1)
    return Tiles(*(part[chosen] for part in tiles))


def continue_answers(
    graphdef: Any,
    params: Tree,
    base: BaseRun,
    switches: Switches,
    positions: Positions,
    start: Int[Array, " batch"],
    length: Int[Array, " batch"],
    end_tokens: Int[Array, " end"],
    tiles: Tiles,
    first_layer: Int[Array, ""],
    rows: int,
    longest: int,
    prefix: int,
) -> Int[Array, "tile slot step"]:
    """The whole answers of some tiles; places after the end hold an end token.

    Args:
        base: as for `drafted_pass`, and likewise switches and positions.
        start, length: of the batch's prompts.
        first_layer: no configuration blocks anything before it.
        rows, prefix: static, as for `drafted_pass`.
        longest: static; so many rows cover the longest answer as well.
    """
    model = nnx.merge(graphdef, params)
    decoder = model.language_model
    block_of, stacked = split_blocks(decoder.layers)
    layers = decoder.config.layers
    of_tile = lambda leaf: leaf[tiles.prompt]  # noqa: E731
    start, length, window = of_tile(start), of_tile(length), of_tile(base.first)
    positions = jax.tree.map(of_tile, jax.tree.map(jnp.asarray, positions))
    known, steps = jnp.asarray(tiles.known), tiles.tokens.shape[2]
    count, slots = tiles.config.shape

    def advance(x: Array, index: Array, own: tuple[Array, Array], query_rows: Array) -> Array:
        """One block over query rows whose keys and values are among `own`, the tile's rows from `start` on."""
        shared = tuple(of_tile(part[index, :, :, :prefix]) for part in (base.key, base.value))
        visual = None if base.visual is None else jax.tree.map(of_tile, layer_slice(base.visual, index))
        at = Rows(query_rows, start, own[0].shape[2])
        on = layer_slice(switches, (tiles.config, index))
        rotation = decoder.rotation(query_rows[:, None])
        block = block_of(layer_slice(stacked, index))
        return recomputed_block(block, x, rotation, own, shared, visual, at, on, positions)

    def unchanged(index: Array, cache: tuple[Array, Array]) -> tuple[Array, Array]:
        """Keys and values of a layer before the first: the base run's."""
        return own_rows(base_rows(index), index, cache)[1]

    prompt_rows = start[:, None] + jnp.arange(rows)
    prompt_rotation = decoder.rotation(prompt_rows[:, None])

    def base_rows(index: Array) -> Array:
        """A layer's input in the base run [tile, 1, row, width]."""
        return rows_from(of_tile(base.hidden[index]), start - window, rows)[:, None]

    def own_rows(x: Array, index: Array, cache: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """The rows' keys and values, and the cache with them."""
        own = block_of(layer_slice(stacked, index)).keys_values(x, prompt_rotation)
        key, value = (part.at[index, :, :, :rows].set(new) for part, new in zip(cache, own, strict=True))
        return own, (key, value)

    def changed(index: Array, state: tuple[Array, tuple[Array, Array]]) -> tuple[Array, tuple[Array, Array]]:
        x, cache = state
        own, cache = own_rows(x, index, cache)
        return advance(x, index, own, prompt_rows), cache

    kv_heads, width = base.key.shape[2], base.key.shape[4]
    empty = jnp.zeros((layers, count, slots, longest, kv_heads, width), base.key.dtype)
    cache = jax.lax.fori_loop(0, first_layer, unchanged, (empty, empty))
    x = jnp.repeat(base_rows(first_layer), slots, axis=1)
    x, cache = jax.lax.fori_loop(first_layer, layers - 1, changed, (x, cache))
    # Of the last block only keys and values are needed: what comes next is known.
    cache = own_rows(x, jnp.array(layers - 1), cache)[1]

    def one_token(state: tuple[Array, Array, tuple[Array, Array]]) -> tuple[Array, Array, tuple[Array, Array]]:
        step, tokens, cache = state
        place = (length + step)[:, None]
        token = jax.lax.dynamic_index_in_dim(tokens, step, axis=2)
        rotation = decoder.rotation(place[:, None])

        def layer(index: Array, state: tuple[Array, tuple[Array, Array]]) -> tuple[Array, tuple[Array, Array]]:
            x, cache = state
            new = block_of(layer_slice(stacked, index)).keys_values(x, rotation)
            at = index, jnp.arange(count)[:, None], jnp.arange(slots), place - start[:, None]
            key, value = (part.at[at].set(one[:, :, 0]) for part, one in zip(cache, new, strict=True))
            return advance(x, index, (key[index], value[index]), place), (key, value)

        x = decoder.embed(token, place[:, None])
        x, cache = jax.lax.fori_loop(0, layers, layer, (x, cache))
        following = jnp.argmax(decoder.logits(x[:, :, 0]), axis=-1).astype(tokens.dtype)
        following = jnp.where(jnp.isin(token[..., 0], end_tokens), end_tokens[0].astype(tokens.dtype), following)
        following = jnp.where(step + 1 < known, tokens[:, :, step + 1], following)
        return step + 1, tokens.at[:, :, step + 1].set(following), cache

    def unfinished(state: tuple[Array, Array, tuple[Array, Array]]) -> Array:
        step, tokens, _ = state
        last = jax.lax.dynamic_index_in_dim(tokens, step, axis=2)
        return (step < steps - 1) & ~jnp.all(jnp.isin(last, end_tokens))

    # Rows behind a departure hold the draft's tokens; they are overwritten before they are read.
    departed = jnp.min(known) - 1
    return jax.lax.while_loop(unfinished, one_token, (departed, jnp.asarray(tiles.tokens), cache))[1]


def first_blocked_layers(switches: Switches) -> Int[np.ndarray, " config"]:
    """The first layer in which each of a study's configurations switches anything on; 0 where there is none."""
    on = [np.asarray(switch).any(axis=tuple(range(2, np.ndim(switch)))) for switch in switches]
    return np.logical_or.reduce(on).argmax(1)


def continue_departed(
    run: Callable[[Tiles, Any], Any],
    departed: Bool[np.ndarray, "batch config"],
    tokens: Int[np.ndarray, "batch config step"],
    known: Int[np.ndarray, "batch config"],
    first_layer: Int[np.ndarray, " config"],
    devices: int = 1,
) -> Int[np.ndarray, "batch config step"]:
    """The answers with those that departed decoded on.

    Args:
        run: (tiles, first layer) -> their whole answers.
        devices: that the batch is spread over; a call then holds as many tiles of each of them, one device's after
            another's, and a tile's prompt is counted among its device's.
    """
    own = len(departed) // devices
    size = min(own, MOST_TILES)
    parts = [slice(first, first + own) for first in range(0, len(departed), own)]
    slots = min(MOST_SLOTS, AT_ONCE // size)
    of_device = [build_tiles(departed[part], tokens[part], known[part], first_layer, slots) for part in parts]
    whole = tokens.copy()
    running = []
    for first in range(0, max(len(tiles.prompt) for tiles in of_device), size):
        chosen = [take_tiles(tiles, first, size, tokens[part]) for tiles, part in zip(of_device, parts, strict=True)]
        some = Tiles(*(np.concatenate(leaves) for leaves in zip(*chosen, strict=True)))
        running.append((chosen, run(some, np.int32(first_layer[some.config].min()))))
    for chosen, answers in running:
        for tiles, part, found in zip(chosen, parts, np.split(to_host(answers), devices), strict=True):
            kept = departed[part][tiles.prompt[:, None], tiles.config]
            whole[part][tiles.prompt[:, None], tiles.config] = np.where(kept[..., None], found, tiles.tokens)
    return whole
