"""What families with one vision tower and one decoder, and the image in the prompt, say alike of their models."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from xmflow_jax.data.images import ImageLayout
from xmflow_jax.data.place import Place, plain_place
from xmflow_jax.machine.partitioning import Partitioning, Tower
from xmflow_jax.nn.anatomy import MAIN, MLP, SELF, Anatomy, StackShape


@runtime_checkable
class TowerSizes(Protocol):
    """Of a vision tower."""

    @property
    def heads(self) -> int: ...


@runtime_checkable
class DecoderSizes(Protocol):
    """Of a decoder."""

    @property
    def layers(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def kv_heads(self) -> int: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def positions(self) -> int: ...


@runtime_checkable
class TowerAndDecoder(Protocol):
    """A configuration with both."""

    @property
    def vision(self) -> TowerSizes: ...

    @property
    def text(self) -> DecoderSizes: ...


# Parameters between tower and decoder, by the beginnings of their paths, as people call them.
PROJECTOR: Final[Mapping[str, str]] = {"multi_modal_projector": "the projector"}


def partitioning(
    config: TowerAndDecoder, tower: str = "vision_tower", between: Mapping[str, str] = PROJECTOR
) -> Partitioning:
    """Tower and decoder by their own heads; what is between them has columns alone.

    Args:
        tower: the beginning of the tower's paths.
    """
    vision, text = config.vision, config.text
    return Partitioning(
        {
            tower: Tower("the vision tower", vision.heads, vision.heads),
            **{path: Tower(name) for path, name in between.items()},
            "language_model": Tower("the decoder", text.heads, text.kv_heads),
        }
    )


def anatomy(config: TowerAndDecoder, views: tuple[str, ...] = ()) -> Anatomy:
    """One stack of the decoder's blocks, with the positions that it was trained on.

    Args:
        views: as of `Anatomy`.
    """
    text = config.text
    stack = StackShape(MAIN, ((SELF, MLP),) * text.layers, text.heads)
    return Anatomy((stack,), text.vocabulary, text.positions, views)


def place(config: TowerAndDecoder, tokens: Int32[np.ndarray, " positions"], images: Sequence[ImageLayout]) -> Place:
    """A position's id is its index, and the prompt is causal."""
    return plain_place(len(tokens))
