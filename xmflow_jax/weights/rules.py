"""How a family's published files are spelt: where each parameter is found, and under which names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

Path = tuple[str, ...]

# Orders of axes that turn a published tensor into ours.
VECTOR = (0,)
AS_IS = (0, 1)
LINEAR = (1, 0)  # (out, in) -> (in, out)
CONVOLUTION = (2, 3, 1, 0)  # (out, in, height, width) -> (height, width, in, out)
CONVOLUTION_3D = (2, 3, 4, 1, 0)  # (out, in, time, height, width) -> (time, height, width, in, out)


@dataclass(frozen=True)
class Rule:
    """One parameter.

    Attributes:
        published: canonical tensor name; `*` stands for the layer.
        path: of the parameter in the NNX state. With a `*` in the name, the parameter's leading axis is the layer.
        axes: the published tensor is transposed to this order.
        layers: how many layers `*` runs over; 0 without a `*`.
        numbers: of these layers in the published names, in the order of the parameter's leading axis; None: 0, 1, ...
        part: (index, count) where the published tensor fuses `count` parameters of one size.
        part_axis: the axis of the published tensor along which it fuses them, `leading` axes not counted.
        leading: axes of size 1 that the published tensor begins with.
    """

    published: str
    path: Path
    axes: tuple[int, ...]
    layers: int = 0
    part: tuple[int, int] = (0, 1)
    part_axis: int = -1
    leading: int = 0
    numbers: tuple[int, ...] | None = None

    def names(self) -> tuple[str, ...]:
        """The canonical tensor names that make up the parameter, in layer order."""
        if not self.layers:
            return (self.published,)
        return tuple(self.published.replace("*", str(layer)) for layer in self.layer_numbers())

    def layer_numbers(self) -> tuple[int, ...]:
        """The published numbers of the layers that `*` runs over."""
        return tuple(range(self.layers)) if self.numbers is None else self.numbers

    def published_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of each published tensor of a parameter of this shape."""
        ours = shape[1:] if self.layers else shape
        own = [ours[self.axes.index(axis)] for axis in range(len(ours))]
        own[self.part_axis] *= self.part[1]
        return (1,) * self.leading + tuple(own)

    def published_index(self, bounds: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Where in each published tensor a part of a parameter (of one layer of it) lies.

        Args:
            bounds: start and stop of the part along the parameter's axes.
            shape: of the whole parameter.
        """
        published = [bounds[self.axes.index(axis)] for axis in range(len(bounds))]
        fused = self.part_axis % len(bounds)
        offset = self.part[0] * shape[self.axes.index(fused)]
        start, stop = published[fused]
        published[fused] = (start + offset, stop + offset)
        return (slice(0, 1),) * self.leading + tuple(slice(*one) for one in published)

    def own(self, tensor: np.ndarray) -> np.ndarray:
        """What of a published tensor belongs to this parameter."""
        index, count = self.part
        tensor = tensor.reshape(tensor.shape[self.leading :])
        width = tensor.shape[self.part_axis] // count
        chosen = [slice(None)] * tensor.ndim
        chosen[self.part_axis] = slice(index * width, (index + 1) * width)
        return tensor[tuple(chosen)]


@dataclass(frozen=True)
class Layout:
    """One way in which published files spell a family's canonical tensor names.

    Attributes:
        name: for people; two families may both have a "hub" layout.
        beginnings: canonical beginning -> published beginning; the first that fits is replaced.
        parts: within a name, canonical -> published; the first that is found is replaced.
    """

    name: str
    beginnings: Mapping[str, str]
    parts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def published(self, canonical: str) -> str:
        """A canonical tensor name as this layout spells it."""
        ours, published = next(pair for pair in self.beginnings.items() if canonical.startswith(pair[0]))
        name = published + canonical.removeprefix(ours)
        for own, other in self.parts.items():
            if own in name:
                return name.replace(own, other)
        return name


@dataclass(frozen=True)
class KeyTable:
    """All tensors of one model's checkpoint, and their names.

    Attributes:
        rules: of all parameters, each parameter once.
        layouts: the published layouts; a checkpoint is written in the first where no other is asked for.
        harmless: tensors that some files hold and no model needs: the end of their names as a regular expression, and
            why.
        embedding, head: canonical names of the word embedding and of the head.
        tied: the head is the embedding, and has no parameter of its own.
        scaled: a word's embedding is multiplied by the root of its width.
    """

    rules: tuple[Rule, ...]
    layouts: tuple[Layout, ...]
    harmless: Mapping[str, str]
    embedding: str
    head: str
    tied: bool
    scaled: bool = False

    def tensor_names(self) -> tuple[str, ...]:
        """The canonical names of all tensors, each once: published files fuse some parameters into one tensor."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.names()))


def linear(
    published: str, path: Path, layers: int = 0, *, bias: bool, part: tuple[int, int] = (0, 1)
) -> Iterator[Rule]:
    """A `torch.nn.Linear`; one that fuses several has their outputs one after the other."""
    yield Rule(f"{published}.weight", (*path, "kernel"), LINEAR, layers, part, part_axis=0)
    if bias:
        yield Rule(f"{published}.bias", (*path, "bias"), VECTOR, layers, part)


def norm(published: str, path: Path, layers: int = 0, *, bias: bool) -> Iterator[Rule]:
    """A layer norm, or an RMS norm without bias."""
    yield Rule(f"{published}.weight", (*path, "scale"), VECTOR, layers)
    if bias:
        yield Rule(f"{published}.bias", (*path, "bias"), VECTOR, layers)
