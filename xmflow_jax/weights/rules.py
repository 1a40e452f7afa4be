"""Where one parameter is found in published files."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Path = tuple[str, ...]

# Orders of axes that turn a published tensor into ours.
VECTOR = (0,)
AS_IS = (0, 1)
LINEAR = (1, 0)  # (out, in) -> (in, out)
CONVOLUTION = (2, 3, 1, 0)  # (out, in, height, width) -> (height, width, in, out)


@dataclass(frozen=True)
class Rule:
    """One parameter.

    Attributes:
        published: canonical tensor name; `*` stands for the layer.
        path: of the parameter in the NNX state. With a `*` in the name, the parameter's leading axis is the layer.
        axes: the published tensor is transposed to this order.
        layers: how many layers `*` runs over; 0 without a `*`.
        part: (index, count) where the published tensor fuses `count` parameters along its last axis.
        leading: axes of size 1 that the published tensor begins with.
    """

    published: str
    path: Path
    axes: tuple[int, ...]
    layers: int = 0
    part: tuple[int, int] = (0, 1)
    leading: int = 0

    def names(self) -> tuple[str, ...]:
        """The canonical tensor names that make up the parameter, in layer order."""
        if not self.layers:
            return (self.published,)
        return tuple(self.published.replace("*", str(layer)) for layer in range(self.layers))

    def published_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of each published tensor of a parameter of this shape."""
        ours = shape[1:] if self.layers else shape
        own = [ours[self.axes.index(axis)] for axis in range(len(ours))]
        own[-1] *= self.part[1]
        return (1,) * self.leading + tuple(own)

    def published_index(self, bounds: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Where in each published tensor a part of a parameter (of one layer of it) lies.

        Args:
            bounds: start and stop of the part along the parameter's axes.
            shape: of the whole parameter.
        """
        published = [bounds[self.axes.index(axis)] for axis in range(len(bounds))]
        offset = self.part[0] * shape[self.axes.index(len(bounds) - 1)]
        start, stop = published[-1]
        published[-1] = (start + offset, stop + offset)
        return (slice(0, 1),) * self.leading + tuple(slice(*one) for one in published)

    def own(self, tensor: np.ndarray) -> np.ndarray:
        """What of a published tensor belongs to this parameter."""
        index, count = self.part
        width = tensor.shape[-1] // count
        return tensor.reshape(tensor.shape[self.leading :])[..., index * width : (index + 1) * width]


def linear(published: str, path: Path, layers: int = 0, *, bias: bool) -> Iterator[Rule]:
    """A `torch.nn.Linear`."""
    yield Rule(f"{published}.weight", (*path, "kernel"), LINEAR, layers)
    if bias:
        yield Rule(f"{published}.bias", (*path, "bias"), VECTOR, layers)


def norm(published: str, path: Path, layers: int = 0, *, bias: bool) -> Iterator[Rule]:
    """A layer norm, or an RMS norm without bias."""
    yield Rule(f"{published}.weight", (*path, "scale"), VECTOR, layers)
    if bias:
        yield Rule(f"{published}.bias", (*path, "bias"), VECTOR, layers)
