"""The channels that tell labelled classes apart best: what pictures and pairwise terms should see."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.labels import Labels, read_seeds
from weakseg_lightning.data.images.statistics import places_of
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.energies.potts import VOID

__all__ = ["ClassMoments", "GuideChoice", "choose_guide", "class_distances"]

_SHOWN = 3
_IMAGES = 200
_PIXELS = 2_000  # of each class of an image
_FEWEST = 30  # pixels of a class that say how its channels vary
_GAIN = 0.1  # of the distance of two classes; with less the usual channels stay, in which people know pictures
_ENOUGH = 0.02  # of a distance, which two more channels have to gain on one alone
_RIDGE = 1e-6  # of a channel's variance, which a class may not have
_ROUNDING = 1e-9  # of a channel's values: no more variance than that is none
_READERS = 4

Floats = NDArray[np.float64]


class ClassMoments(NamedTuple):
    """Pixels of a class: their number, the mean of each channel, and their scatter about it, ``(C, C)``."""

    pixels: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, values: Floats) -> "ClassMoments":
        """Measure pixels, ``(n, C)``."""
        mean = values.mean(0)
        return cls(len(values), mean, (values - mean).T @ (values - mean))

    def joined(self, other: "ClassMoments") -> "ClassMoments":
        """Those of both sets of pixels."""
        pixels, apart = self.pixels + other.pixels, other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.pixels * other.pixels / pixels)
        return ClassMoments(pixels, self.mean + apart * (other.pixels / pixels), scatter)


@dataclass(frozen=True)
class GuideChoice:
    """Channels that tell classes apart better than those that are shown otherwise.

    Attributes:
        names: of the three, or the one, in the order of the channels.
        classes: names of the two classes that gain most.
        distance: of these two, 0 for alike, 1 for never mistaken (:func:`class_distances`).
        usual: their distance in the channels that are shown otherwise.
    """

    names: list[str]
    classes: tuple[str, str]
    distance: float
    usual: float


def choose_guide(
    contents: FolderContents, images: Sequence[str], supervision: Supervision, names: Sequence[str]
) -> GuideChoice | None:
    """Choose one channel or three by the labelled pixels of training images.

    Channels are added one after the other, each time the one with which the mean distance of two classes
    (:func:`class_distances`) is largest; the first stays alone where two more gain next to nothing.

    Args:
        contents: the folder.
        images: ids of images to learn from that have labels; those that cannot be read are left out.
        supervision: which of their labels to look at.
        names: of the channels.

    Returns:
        The choice; None if no two classes are told apart notably better by it than by red, green and blue, or the first
        three, or two others notably worse, or if fewer than two classes have pixels enough.
    """
    if len(names) <= _SHOWN:
        return None
    moments = _moments_by_class(contents, images, supervision)
    if len(moments) < 2:
        return None
    distances = class_distances([*moments.values()])
    chosen: list[int] = []
    while len(chosen) < _SHOWN:
        left = [number for number in range(len(names)) if number not in chosen]
        chosen.append(max(left, key=lambda number: distances([*chosen, number]).mean()))
    if (distances(chosen) - distances(chosen[:1])).max() < _ENOUGH:
        chosen = chosen[:1]
    usual, found = distances(sorted(set(places_of(names, None)))), distances(sorted(chosen))
    pair = int((found - usual).argmax())
    if found.mean() <= usual.mean() or found[pair] < usual[pair] + _GAIN or (usual - found).max() >= _GAIN:
        return None
    one, other = list(combinations(moments, 2))[pair]
    classes = contents.classes.names[one], contents.classes.names[other]
    return GuideChoice([names[number] for number in sorted(chosen)], classes, float(found[pair]), float(usual[pair]))


def class_distances(moments: Sequence[ClassMoments]) -> Callable[[Sequence[int]], Floats]:
    """Measure how well channels tell classes apart by their means, as far as these differ for the spread within.

    It is 1 - exp(-B), half the Jeffries-Matusita distance of two normal distributions whose covariance is the mean of
    the two classes' (Bruzzone, Roli, Serpico: An extension of the Jeffreys-Matusita distance to multiclass cases for
    feature selection, IEEE TGRS 1995, eq. 3 and 4): B is an eighth of the squared Mahalanobis distance of their means.
    Classes that differ in their spread alone count as alike: a difference of two pixels does not tell them apart.

    Args:
        moments: of each class, of at least 2 pixels.

    Returns:
        A function from numbers of channels to the distances in 0..1, in the order of ``itertools.combinations``.
    """
    whole = moments[0]
    for other in moments[1:]:
        whole = whole.joined(other)
    scale = np.sqrt(whole.scatter.diagonal() / whole.pixels)
    scale[scale <= _ROUNDING * np.abs(whole.mean)] = np.inf  # such a channel tells nothing
    means = [one.mean / scale for one in moments]
    spreads = [one.scatter / (one.pixels - 1) / np.outer(scale, scale) for one in moments]
    pairs = list(combinations(range(len(moments)), 2))

    def distances(channels: Sequence[int]) -> Floats:
        chosen, ridge = np.ix_(channels, channels), _RIDGE * np.eye(len(channels))
        found = []
        for one, other in pairs:
            apart = (means[one] - means[other])[list(channels)]
            spread = (spreads[one][chosen] + spreads[other][chosen]) / 2 + ridge
            found.append(1 - np.exp(-apart @ np.linalg.solve(spread, apart) / 8))
        return np.array(found)

    return distances


def _moments_by_class(
    contents: FolderContents, images: Sequence[str], supervision: Supervision
) -> dict[int, ClassMoments]:
    """Moments of the labelled pixels of each class that has enough."""
    some = images[:: -(-len(images) // _IMAGES)] if images else images
    joined = dict[int, ClassMoments]()
    with ThreadPoolExecutor(_READERS) as pool:  # decoding releases the GIL
        for found in pool.map(partial(_labelled, contents, supervision), some):
            for label, moments in found:
                joined[label] = joined[label].joined(moments) if label in joined else moments
    return {label: joined[label] for label in sorted(joined) if joined[label].pixels >= _FEWEST}


def _labelled(contents: FolderContents, supervision: Supervision, name: str) -> list[tuple[int, ClassMoments]]:
    try:
        planes = contents.read_planes(name, 0)
        labels = read_seeds(contents, name, contents.size_of(name), supervision)
        valid = contents.valid_of(name)
    except BadSampleError:
        return []  # named by what trains
    if labels is None:
        return []
    return list(_of_classes(planes, labels if valid is None else np.where(valid, labels, VOID)))


def _of_classes(planes: Sequence[NDArray[np.generic]], labels: Labels) -> Iterator[tuple[int, ClassMoments]]:
    for label in np.unique(labels[labels != VOID]).tolist():
        where = np.flatnonzero(labels == label)
        where = where[:: -(-len(where) // _PIXELS)]
        with np.errstate(over="ignore", invalid="ignore"):
            moments = ClassMoments.of(np.stack([plane.ravel()[where].astype(np.float64) for plane in planes], axis=1))
        if np.isfinite(moments.scatter).all():
            yield label, moments
