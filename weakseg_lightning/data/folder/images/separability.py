"""The three channels that tell labelled classes apart best: what pictures and pairwise terms should see."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.labels import Labels, read_seeds
from weakseg_lightning.data.images.statistics import places_of
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.energies.potts import VOID

__all__ = ["GuideChoice", "choose_guide", "class_distances"]

_SHOWN = 3
_IMAGES = 200
_PIXELS = 2_000  # of each class of an image
_FEWEST = 30  # pixels of a class that say how its channels vary
_GAIN = 0.1  # of the distance of two classes; with less the usual channels stay, in which people know pictures
_RIDGE = 1e-9  # of a channel's variance: a class may have one value in it
_READERS = 4


@dataclass(frozen=True)
class GuideChoice:
    """Channels that tell classes apart better than those that are shown otherwise.

    Attributes:
        names: of the three, in the order of the channels.
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
    """Choose three channels by the labelled pixels of some images.

    Channels are added one after the other, each time the one with which the mean distance of two classes
    (:func:`class_distances`) is largest.

    Args:
        contents: the folder.
        images: ids of images that have labels.
        supervision: which of their labels to look at.
        names: of the channels.

    Returns:
        The choice; None if no two classes are told apart notably better by it than by red, green and blue, or the first
        three, or if fewer than two classes have pixels enough.
    """
    values = _values_by_class(contents, images, supervision)
    if len(names) <= _SHOWN or len(values) < 2:
        return None
    samples = list(values.values())
    chosen: list[int] = []
    while len(chosen) < _SHOWN:
        left = [number for number in range(len(names)) if number not in chosen]
        chosen.append(max(left, key=lambda number: class_distances(samples, [*chosen, number]).mean()))
    usual = class_distances(samples, sorted(set(places_of(names, None))))
    found = class_distances(samples, sorted(chosen))
    pair = int((found - usual).argmax())
    if found.mean() <= usual.mean() or found[pair] < usual[pair] + _GAIN:
        return None
    one, other = list(combinations(values, 2))[pair]
    classes = contents.classes.names[one], contents.classes.names[other]
    return GuideChoice([names[number] for number in sorted(chosen)], classes, float(found[pair]), float(usual[pair]))


def class_distances(samples: Sequence[NDArray[np.float64]], channels: Sequence[int]) -> NDArray[np.float64]:
    """Jeffries-Matusita distance of each two classes in some channels, taken as normally distributed.

    It is 1 - exp(-B), half the usual one, where B is the Bhattacharyya distance (Bruzzone, Roli, Serpico: An extension
    of the Jeffreys-Matusita distance to multiclass cases for feature selection, IEEE TGRS 1995, eq. 3 and 4).

    Args:
        samples: by class, pixels and all their channels, ``(n, C)``, n at least 2.
        channels: numbers of the channels.

    Returns:
        Distances in 0..1, in the order of ``itertools.combinations``.
    """
    scale = np.concatenate(samples)[:, channels].std(0)
    scale[scale == 0] = 1
    means = [sample[:, channels].mean(0) / scale for sample in samples]
    noise = _RIDGE * np.eye(len(channels))
    spreads = [np.atleast_2d(np.cov(sample[:, channels] / scale, rowvar=False)) + noise for sample in samples]
    volumes = [np.linalg.slogdet(spread)[1] for spread in spreads]
    distances = []
    for one, other in combinations(range(len(samples)), 2):
        spread, apart = (spreads[one] + spreads[other]) / 2, means[one] - means[other]
        squared = apart @ np.linalg.solve(spread, apart)
        distances.append(squared / 8 + (np.linalg.slogdet(spread)[1] - (volumes[one] + volumes[other]) / 2) / 2)
    return np.asarray(1 - np.exp(-np.array(distances)))


def _values_by_class(
    contents: FolderContents, images: Sequence[str], supervision: Supervision
) -> dict[int, NDArray[np.float64]]:
    """Channels of labelled pixels by class, ``(n, C)``, of the classes that have enough."""
    some = images[:: -(-len(images) // _IMAGES)] if images else images
    collected = dict[int, list[NDArray[np.float64]]]()
    with ThreadPoolExecutor(_READERS) as pool:  # decoding releases the GIL
        for found in pool.map(partial(_labelled, contents, supervision), some):
            for label, values in found:
                collected.setdefault(label, []).append(values)
    joined = {label: np.concatenate(collected[label]) for label in sorted(collected)}
    return {label: values for label, values in joined.items() if len(values) >= _FEWEST}


def _labelled(contents: FolderContents, supervision: Supervision, name: str) -> list[tuple[int, NDArray[np.float64]]]:
    try:
        planes = contents.read_planes(name, 0)
        labels = read_seeds(contents, name, contents.size_of(name), supervision)
        valid = contents.valid_of(name)
    except BadSampleError:
        return []  # named by what trains
    return (
        [] if labels is None else list(_of_classes(planes, labels if valid is None else np.where(valid, labels, VOID)))
    )


def _of_classes(planes: Sequence[NDArray[np.generic]], labels: Labels) -> Iterator[tuple[int, NDArray[np.float64]]]:
    for label in np.unique(labels[labels != VOID]).tolist():
        where = np.flatnonzero(labels == label)
        where = where[:: -(-len(where) // _PIXELS)]
        values = np.stack([plane.ravel()[where].astype(np.float64) for plane in planes], axis=1)
        yield label, values[np.isfinite(values).all(1)]
