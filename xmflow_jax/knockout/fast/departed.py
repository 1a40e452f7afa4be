"""Departed answers, in few static shapes: which of them are decoded on together, and what comes back.

A tile is a prompt with a few of its departed configurations, its slots, of every group of configurations
(`plan.Group`): what they read of the prompt they share, and most of what a call costs is the reading of the weights,
once for each token.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.knockout.study import Study
from xmflow_jax.machine.passes import FIRST, SECOND, to_host
from xmflow_jax.nn.anatomy import MAIN

# Departed answers of a group in a call, and the most of one prompt's and the most prompts among them. For a batch of
# some size it is one shape, since every shape is another program.
AT_ONCE: Final = 32
MOST_SLOTS: Final = 8
MOST_TILES: Final = 8


class Tiles(NamedTuple):
    """Some prompts of a batch, each with a few configurations of every group, its slots.

    Attributes:
        prompt: rows of the batch.
        config: of the study.
        tokens: the answers as far as they are known.
        known: how many of their tokens are, in ascending order; all of them in a slot that is left over.
    """

    prompt: Int[np.ndarray, " tile"]
    config: Int[np.ndarray, "group tile slot"]
    tokens: Int[np.ndarray, "group tile slot step"]
    known: Int[np.ndarray, "group tile slot"]

    @property
    def used(self) -> Bool[np.ndarray, "group tile slot"]:
        """Slots that are not left over."""
        used: Bool[np.ndarray, "group tile slot"] = self.known < self.tokens.shape[3]
        return used


# Where the tile axis of each field is; tiles are spread as their prompts are.
TILES_PARTS = Tiles._make((FIRST, SECOND, SECOND, SECOND))


def build_tiles(
    departed: Bool[np.ndarray, "group batch config"],
    tokens: Int[np.ndarray, "batch config step"],
    known: Int[np.ndarray, "batch config"],
    first_layer: Int[np.ndarray, " config"],
    slots: int,
) -> Tiles:
    """The departed answers as tiles, sorted by where they departed and then by their first layer, as their slots are.

    Args:
        departed: of each group.
        first_layer: in which each configuration blocks anything.
    """
    groups, prompts = departed.shape[:2]
    tiles: list[Tiles] = []
    for row in range(prompts):
        chosen = [np.flatnonzero(own) for own in departed[:, row]]
        chosen = [own[np.lexsort((first_layer[own], known[row, own]))] for own in chosen]
        count = max(-(-len(own) // slots) for own in chosen)
        room = [np.arange(count * slots) < len(own) for own in chosen]
        config = np.stack([np.pad(own, (0, count * slots - len(own))) for own in chosen])
        mine = np.where(room, known[row, config], tokens.shape[2])
        shape = groups, count, slots
        config, mine = config.reshape(shape).astype(np.int32), mine.reshape(shape).astype(np.int32)
        tiles.append(Tiles(np.full(count, row, np.int32), config, tokens[row, config], mine))
    whole = join_tiles(tiles)
    layer = np.where(whole.used, first_layer[whole.config], np.inf)
    order = np.lexsort((layer.min((0, 2)), whole.known.min((0, 2))))
    return Tiles(whole.prompt[order], whole.config[:, order], whole.tokens[:, order], whole.known[:, order])


def join_tiles(parts: Sequence[Tiles]) -> Tiles:
    """Tiles behind tiles."""
    prompt, *others = zip(*parts, strict=True)
    return Tiles(np.concatenate(prompt), *(np.concatenate(leaves, axis=1) for leaves in others))


def take_tiles(tiles: Tiles, first: int, size: int, answers: Int[np.ndarray, "batch config step"]) -> Tiles:
    """`size` tiles from `first` on; what is missing is filled up with tiles whose slots are all left over.

    Args:
        answers: of all prompts, as far as they are known.
    """
    groups, count, slots, steps = tiles.tokens.shape
    nothing = np.zeros((groups, max(0, first + size - max(first, count)), slots), np.int32)
    filler = Tiles(nothing[0, :, 0], nothing, answers[nothing, nothing], nothing + steps)
    some = slice(first, first + size)
    return join_tiles([Tiles(tiles.prompt[some], *(leaf[:, some] for leaf in tiles[1:])), filler])


def first_blocked_layers(study: Study) -> Int[np.ndarray, " config"]:
    """The first layer of the main stack in which each of a study's configurations switches anything on; 0 where there
    is none."""
    begin = study.anatomy.first_layer(MAIN)
    on = np.zeros((len(study.knockouts), study.layers), bool)
    for switch in study.switches.values():
        on |= np.asarray(switch).any(axis=tuple(range(2, np.ndim(switch))))
    return on[:, begin:].argmax(1)


def first_layers(tiles: Tiles, first_layer: Int[np.ndarray, " config"], most: int) -> Int[np.ndarray, "group slot"]:
    """The first layer that any tile blocks anything in, slot by slot; `most` where the slot is left over in all."""
    return np.where(tiles.used, first_layer[tiles.config], most).min(1, initial=most).astype(np.int32)


def continue_departed(
    run: Callable[[Tiles, Int[np.ndarray, "group slot"]], Any],
    departed: Bool[np.ndarray, "group batch config"],
    tokens: Int[np.ndarray, "batch config step"],
    known: Int[np.ndarray, "batch config"],
    first_layer: Int[np.ndarray, " config"],
    last_layer: int,
    devices: int = 1,
) -> Int[np.ndarray, "batch config step"]:
    """The answers with those that departed decoded on.

    Args:
        run: (tiles, first layers) -> their whole answers [group, tile, slot, step].
        departed: of each group of configurations.
        last_layer: of the model.
        devices: that the batch is spread over; a call then holds as many tiles of each of them, one device's after
            another's, and a tile's prompt is counted among its device's.
    """
    own = len(tokens) // devices
    size = min(own, MOST_TILES)
    parts = [slice(first, first + own) for first in range(0, len(tokens), own)]
    slots = min(MOST_SLOTS, AT_ONCE // size)
    waiting = [build_tiles(departed[:, part], tokens[part], known[part], first_layer, slots) for part in parts]
    whole = tokens.copy()
    running = []
    for first in range(0, max(len(tiles.prompt) for tiles in waiting), size):
        chosen = [take_tiles(tiles, first, size, tokens[part]) for tiles, part in zip(waiting, parts, strict=True)]
        some = join_tiles(chosen)
        running.append((chosen, run(some, first_layers(some, first_layer, last_layer))))
    for chosen, answers in running:
        for tiles, part, mine in zip(chosen, parts, np.split(to_host(answers), devices, axis=1), strict=True):
            prompt = np.broadcast_to(tiles.prompt[:, None], tiles.config.shape)
            whole[part][prompt[tiles.used], tiles.config[tiles.used]] = mine[tiles.used]
    return whole
