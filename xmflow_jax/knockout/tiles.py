"""Departed answers, in few static shapes: which of them are decoded on together, and what comes back.

A tile is a prompt with a few of its departed configurations, its slots. A call takes some tiles of every group of
configurations (`plan.Group`), because what it costs is mostly the reading of the weights, once for each token.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.knockout.arrays import Switches
from xmflow_jax.knockout.split import to_host

# Departed answers of a group in a call, and the most of one prompt's and the most prompts among them. For a batch of
# some size it is one shape, since every shape is another program.
AT_ONCE: Final = 32
MOST_SLOTS: Final = 8
MOST_TILES: Final = 8


class Tiles(NamedTuple):
    """Some prompts of a batch, each with a few configurations, its slots.

    Attributes:
        prompt: rows of the batch.
        config: of the study.
        tokens: the answers as far as they are known.
        known: how many of their tokens are; all of them in a slot that is left over.
    """

    prompt: Int[np.ndarray, " tile"]
    config: Int[np.ndarray, "tile slot"]
    tokens: Int[np.ndarray, "tile slot step"]
    known: Int[np.ndarray, "tile slot"]

    @property
    def used(self) -> Bool[np.ndarray, "tile slot"]:
        """Slots that are not left over."""
        used: Bool[np.ndarray, "tile slot"] = self.known < self.tokens.shape[2]
        return used


def build_tiles(
    departed: Bool[np.ndarray, "batch config"],
    tokens: Int[np.ndarray, "batch config step"],
    known: Int[np.ndarray, "batch config"],
    first_layer: Int[np.ndarray, " config"],
    slots: int,
) -> Tiles:
    """The departed answers as tiles, sorted by where they departed and then by their first layer; a slot that is left
    over has its neighbour's configuration.

    Args:
        first_layer: in which each configuration blocks anything.
    """
    prompts: list[int] = []
    configs, used = [], []
    for row, own in enumerate(departed):
        of_prompt = np.flatnonzero(own)
        of_prompt = of_prompt[np.lexsort((first_layer[of_prompt], known[row, of_prompt]))]
        for begin in range(0, len(of_prompt), slots):
            some = of_prompt[begin : begin + slots]
            prompts.append(row)
            configs.append(np.pad(some, (0, slots - len(some)), mode="edge"))
            used.append(np.arange(slots) < len(some))
    prompt, config = np.array(prompts, np.int32), np.array(configs, np.int32).reshape(-1, slots)
    order = np.lexsort((first_layer[config[:, 0]], known[prompt, config[:, 0]]))
    prompt, config = prompt[order], config[order]
    at = prompt[:, None], config
    mine = np.array(used, bool).reshape(-1, slots)[order]
    return Tiles(prompt, config, tokens[at], np.where(mine, known[at], tokens.shape[2]).astype(np.int32))


def take_tiles(tiles: Tiles, first: int, size: int, answers: Int[np.ndarray, "batch config step"]) -> Tiles:
    """`size` tiles from `first` on; what is missing is filled up with tiles whose slots are all left over.

    Args:
        answers: of all prompts, as far as they are known.
    """
    slots, steps = tiles.config.shape[1], answers.shape[2]
    nothing = np.zeros((max(0, first + size - max(first, len(tiles.prompt))), slots), np.int32)
    filler = Tiles(nothing[:, 0], nothing, answers[nothing, nothing], nothing + steps)
    return Tiles(*(np.concatenate([own[first : first + size], rest]) for own, rest in zip(tiles, filler, strict=True)))


def first_blocked_layers(switches: Switches) -> Int[np.ndarray, " config"]:
    """The first layer in which each of a study's configurations switches anything on; 0 where there is none."""
    on = [np.asarray(switch).any(axis=tuple(range(2, np.ndim(switch)))) for switch in switches]
    return np.logical_or.reduce(on).argmax(1)


def first_layers(tiles: Tiles, first_layer: Int[np.ndarray, " config"], most: int) -> Int[np.ndarray, " slot"]:
    """The first layer that any tile blocks anything in, slot by slot; `most` where the slot is left over in all."""
    return np.where(tiles.used, first_layer[tiles.config], most).min(0, initial=most).astype(np.int32)


def continue_departed(
    run: Callable[[tuple[Tiles, ...], Any], Any],
    departed: Sequence[Bool[np.ndarray, "batch config"]],
    tokens: Int[np.ndarray, "batch config step"],
    known: Int[np.ndarray, "batch config"],
    first_layer: Int[np.ndarray, " config"],
    last_layer: int,
    devices: int = 1,
) -> Int[np.ndarray, "batch config step"]:
    """The answers with those that departed decoded on.

    Args:
        run: (every group's tiles, first layers [group, slot]) -> every group's whole answers [tile, slot, step].
        departed: of each group of configurations.
        last_layer: of the model.
        devices: that the batch is spread over; a call then holds as many tiles of each of them, one device's after
            another's, and a tile's prompt is counted among its device's.
    """
    own = len(tokens) // devices
    size = min(own, MOST_TILES)
    parts = [slice(first, first + own) for first in range(0, len(tokens), own)]
    slots = min(MOST_SLOTS, AT_ONCE // size)
    waiting = [
        [build_tiles(group[part], tokens[part], known[part], first_layer, slots) for part in parts]
        for group in departed
    ]
    whole = tokens.copy()
    running = []
    for first in range(0, max((len(tiles.prompt) for group in waiting for tiles in group), default=0), size):
        chosen = [
            [take_tiles(tiles, first, size, tokens[part]) for tiles, part in zip(group, parts, strict=True)]
            for group in waiting
        ]
        some = tuple(Tiles(*(np.concatenate(leaves) for leaves in zip(*group, strict=True))) for group in chosen)
        running.append((chosen, run(some, np.stack([first_layers(one, first_layer, last_layer) for one in some]))))
    for chosen, answers in running:
        for group, found in zip(chosen, to_host(answers), strict=True):
            for tiles, part, mine in zip(group, parts, np.split(found, devices), strict=True):
                prompt = np.broadcast_to(tiles.prompt[:, None], tiles.config.shape)
                whole[part][prompt[tiles.used], tiles.config[tiles.used]] = mine[tiles.used]
    return whole
