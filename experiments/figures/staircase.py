"""Which rows of which layers a pathway's knockouts recompute, drawn as text from the engine's own schedule.

`python -m experiments.figures.staircase --layers 6 --window 3 --style centred` prints what `docs/engine.md` shows: a
line for each configuration, a column for each layer. `X` is a row in which the pathway is blocked, `o` one that is
recomputed because of what was blocked before, `.` the undisturbed run's, which costs nothing. Where two configurations
have blocked the same things so far they are one row, and the second branches off the first.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.knockout.fast.schedule import BASE, Trie, build_trie
from xmflow_jax.knockout.windows import CENTRED, STYLES, window_layers

# Characters of a layer's column, of which the first holds the row's letter.
COLUMN = 4
LABEL = "layer"


def blocked_layers(style: str, layers: int, window: int) -> Bool[np.ndarray, "config layer bit"]:
    """What one pathway's configurations switch on: one configuration for each layer, one bit."""
    blocked = np.zeros((layers, layers, 1), bool)
    for layer in range(layers):
        blocked[layer, list(window_layers(style, layer, window, layers)), 0] = True
    return blocked


def draw(style: str, layers: int, window: int) -> list[str]:
    """The lines of the drawing, the last one with the rows of every layer."""
    blocked = blocked_layers(style, layers, window)
    trie = build_trie(blocked, range(layers))
    nodes = trie.ends
    margin = len(LABEL) + 3
    lines = [f"{LABEL:{margin}}" + "".join(f"{layer:<{COLUMN}}" for layer in range(layers))]
    grid = [_line(blocked[row, :, 0], nodes, row) for row in range(layers)]
    for row in range(layers):
        _branch(grid, nodes, row)
    lines += [f"at {row:<{margin - 3}}" + "".join(cells) for row, cells in enumerate(grid)]
    lines.append(f"{'rows':{margin}}" + "".join(f"{count:<{COLUMN}}" for count in trie.lanes))
    return [line.rstrip() for line in lines]


def totals(trie: Trie) -> str:
    """Row-layers: necessary, and if every configuration ran through every layer."""
    usual = len(trie.configurations) * len(trie.lanes)
    return f"row-layers: {sum(trie.lanes)} necessary, {usual} with every row in every layer"


def _first(nodes: Int[np.ndarray, "config layer"], row: int, layer: int) -> int:
    """The first configuration that is the same row of this layer."""
    return int(np.argmax(nodes[:, layer] == nodes[row, layer]))


def _line(blocked: Bool[np.ndarray, " layer"], nodes: Int[np.ndarray, "config layer"], row: int) -> list[str]:
    """One configuration's characters; blank where an earlier configuration is the same row."""
    cells = []
    for layer, on in enumerate(blocked):
        if nodes[row, layer] == BASE:
            text = "."
        elif _first(nodes, row, layer) < row:
            text = ""
        else:
            text = ("X" if on else "o") + ("───" if layer + 1 < len(blocked) else "")
        cells += list(f"{text:<{COLUMN}}")
    return cells


def _branch(grid: list[list[str]], nodes: Int[np.ndarray, "config layer"], row: int) -> None:
    """Join a configuration to the one that it was a row with up to some layer."""
    shared = [layer for layer in range(nodes.shape[1]) if nodes[row, layer] != BASE and _first(nodes, row, layer) < row]
    if not shared or shared[-1] + 1 == nodes.shape[1]:
        return
    parent, place = _first(nodes, row, shared[-1]), shared[-1] * COLUMN + 2
    grid[parent][place] = "┬"
    for between in range(parent + 1, row):
        grid[between][place] = "├" if grid[between][place] == "└" else "│"
    grid[row][place : place + 2] = "└─"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a drawing and its row-layers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--layers", type=int, default=6, help="of the model (default: 6)")
    parser.add_argument("--window", type=int, default=3, help="layers blocked at a time (default: 3)")
    parser.add_argument("--style", default=CENTRED, choices=STYLES, help=f"of the windows (default: {CENTRED})")
    given = parser.parse_args(arguments)
    print("\n".join(draw(given.style, given.layers, given.window)))
    print(totals(build_trie(blocked_layers(given.style, given.layers, given.window), range(given.layers))))


if __name__ == "__main__":
    main()
