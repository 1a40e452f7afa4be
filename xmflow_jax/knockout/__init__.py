"""Attention knockout: pathways, windows, the mask pytree, the schedule of what must be recomputed, two engines.

`plain` is the definition (`vmap` of the full pass over configurations); `fast` computes only what can change and gives
the same answer.
"""

from typing import Final

FAST: Final = "fast"
PLAIN: Final = "plain"
ENGINES: Final = (FAST, PLAIN)
