"""Runs like one that was made, with more or fewer answers lost: how often the sign-flip test rejects in them.

A run shows what knockouts do to whole images: the sums of the losses and of the gains of each image's questions, under
every knockout. A like run draws these sums again. Each image loses as often as images with about as many questions did,
and as much at a time as one of them; the same holds for gains. A larger effect is several such runs laid over each
other, a smaller one a run of whose losing images some are spared. So nothing is assumed of how questions of an image go
together but what the run shows, and rare sums, of which no normal formula knows, are as rare as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from xmflow_jax.analysis.clusters import ROUNDING, image_sums

# Most and least runs that are drawn for one number, and about how many values between them.
_RUNS: Final = (200, 2000)
_VALUES: Final = 2**20
# So many changed images are flipped in all ways, one flip each; further ones at random within these flips.
_ALL_WAYS: Final = 11
# With so many changed images a sum of flipped ones is normal to within the test's own rounding.
_MANY: Final = 100
# Images, or losses of theirs over all knockouts, that are enough for a group of their own.
_LEAST_IMAGES: Final = 20
_LEAST_LOSSES: Final = 10
# Most losses of an image that are laid over each other: by then it has lost all that it can.
_MOST_LAYERS: Final = 64


@dataclass(frozen=True)
class Sums:
    """What images with about as many questions lost, or gained, of all their questions together.

    Attributes:
        values: of every image and knockout that lost (gained) anything, above 0.
        rate: the share of images and knockouts that did.
    """

    values: Float[np.ndarray, " changed"]
    rate: float


@dataclass(frozen=True)
class Alike:
    """Images with about as many questions.

    Attributes:
        sizes: questions of each of the images.
        lost, gained: by a knockout.
    """

    sizes: Int[np.ndarray, " images"]
    lost: Sums
    gained: Sums


def alike_images(
    losses: Float[np.ndarray, "questions columns"], images: Int[np.ndarray, " questions"]
) -> tuple[Alike, ...]:
    """What a run's columns tell of its images, which are grouped by how many questions they have.

    Args:
        losses: of scores, -1 to 1; NaN where a question has none.
        images: a number for each question's image.
    """
    sizes = np.rint(image_sums(np.zeros((len(images), 1)), images)[1][:, 0]).astype(int)
    lost, gained = (image_sums(np.fmax(sign * losses, 0.0), images)[0] for sign in (1, -1))  # NaN becomes 0
    found = []
    for first, last in _groups(sizes, (lost > ROUNDING).sum(axis=1)):
        own = (sizes >= first) & (sizes <= last)
        found.append(Alike(sizes[own], _sums(lost[own]), _sums(gained[own])))
    return tuple(found)


def _groups(sizes: Int[np.ndarray, " images"], losing: Int[np.ndarray, " images"]) -> Sequence[tuple[int, int]]:
    """Least and most questions of each group: as few different numbers as tell enough of their images."""
    groups: list[list[int]] = []
    enough = True
    for size in np.unique(sizes).tolist():
        if enough:
            groups.append([size, size])
        groups[-1][1] = size
        own = (sizes >= groups[-1][0]) & (sizes <= size)
        enough = int(own.sum()) >= _LEAST_IMAGES or int(losing[own].sum()) >= _LEAST_LOSSES
    if len(groups) > 1 and not enough:
        (*_, last) = groups.pop()
        groups[-1][1] = last
    return [(first, last) for first, last in groups]


def _sums(values: Float[np.ndarray, "images columns"]) -> Sums:
    changed = values[values > ROUNDING]
    return Sums(changed, len(changed) / max(values.size, 1))


def image_losses(groups: Sequence[Alike], times: float, seed: int = 0) -> Float[np.ndarray, "images runs"]:
    """The sums of what each image loses (less what it gains) in like runs.

    Args:
        times: how much is lost, in multiples of what the run's columns lose on average.

    Returns:
        of fewer runs the more images there are.
    """
    number = sum(len(group.sizes) for group in groups)
    runs = int(np.clip(_VALUES // max(number, 1), *_RUNS))
    random = np.random.default_rng([seed, 3])
    return np.concatenate([_losses_of(group, times, random, runs) for group in groups])


def _losses_of(group: Alike, times: float, random: np.random.Generator, runs: int) -> Float[np.ndarray, "images runs"]:
    shape, most = (len(group.sizes), runs), group.sizes[:, None].astype(float)
    # Drawn first, so that they are the same for every `times`.
    once, gains, more = (random.random(shape) for _ in range(3))
    gained = np.minimum(_drawn(group.gained, gains < group.gained.rate, random), most)
    # Once as in the run, or less; what is more is laid over it, in Poisson's numbers.
    lost = _drawn(group.lost, once < min(times, 1.0) * group.lost.rate, random)
    rate = max(times - 1.0, 0.0) * group.lost.rate
    if rate > 0:
        term = chance = np.exp(-rate)
        for layer in range(1, _MOST_LAYERS):
            again = more >= chance
            if not again.any():
                break
            lost += _drawn(group.lost, again, random)
            term *= rate / layer
            chance += term
    return np.minimum(lost, most - gained) - gained


def _drawn(sums: Sums, where: np.ndarray, random: np.random.Generator) -> Float[np.ndarray, "images runs"]:
    """One of the sums wherever asked for, else 0."""
    values = np.zeros(where.shape)
    if len(sums.values):
        values[where] = sums.values[random.integers(len(sums.values), size=int(where.sum()))]
    return values


def seen(sums: Float[np.ndarray, "images runs"], confidence: float, seed: int = 0) -> float:
    """The share of runs in which the sign-flip test rejects "no effect", and the effect is a loss.

    Args:
        sums: of each image's losses.
        confidence: one less the level of the test.
    """
    packed = _packed(sums)
    total, square = packed.sum(axis=0), (packed**2).sum(axis=0)
    if len(packed) > _MANY:
        return float(((total > ROUNDING) & (total >= float(ndtri((1 + confidence) / 2)) * np.sqrt(square))).mean())
    ways = np.arange(2**_ALL_WAYS)[:, None] >> np.arange(_ALL_WAYS) & 1
    others = np.random.default_rng([seed, 4]).integers(2, size=(len(ways), max(len(packed) - _ALL_WAYS, 0)))
    flips = 1.0 - 2.0 * np.hstack([ways, others])[:, : len(packed)]
    as_far = np.abs(flips @ packed) >= np.abs(total) - 1e-9 * np.abs(packed).sum(axis=0)
    return float(((total > ROUNDING) & (as_far.mean(axis=0) <= 1 - confidence + 1e-12)).mean())


def _packed(sums: Float[np.ndarray, "images runs"]) -> Float[np.ndarray, "changed runs"]:
    """Each run's sums that are not 0, and 0 behind them: flips of 0 change nothing."""
    runs, image = np.nonzero(np.abs(sums.T) > ROUNDING)
    counts = np.bincount(runs, minlength=sums.shape[1])
    place = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
    packed = np.zeros((max(int(counts.max(initial=0)), 1), sums.shape[1]))
    packed[place, runs] = sums[image, runs]
    return packed
