"""Strokes held out of the learning: a validation without masks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg_lightning.energies.potts import VOID

__all__ = ["fraction_right", "held_out_strokes", "strokes_of"]

_EVERY = 5


def strokes_of(labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Tell strokes apart: pixels of one class that touch, at corners too. A click is a stroke of its own.

    Args:
        labels: classes ``(h, w)``, 255 = none.

    Returns:
        Numbers of the strokes ``(h, w)``, from 0 by class and then by their first pixel; -1 = none.
    """
    strokes = np.full(labels.shape, -1, dtype=np.int32)
    count = 0
    for label in np.unique(labels[labels != VOID]):
        parts, found = ndimage.label(labels == label, np.ones((3, 3)))
        strokes[parts > 0] = parts[parts > 0] + (count - 1)
        count += found
    return strokes


def held_out_strokes(classes: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.bool_]]:
    """Choose every fifth stroke of each class, images taken by name.

    Args:
        classes: of each image, the classes of its strokes ``(N,)``.

    Returns:
        Of each image, which of its strokes are held out ``(N,)``.
    """
    seen: dict[int, int] = {}
    chosen = {}
    for name in sorted(classes):
        chosen[name] = np.zeros(len(classes[name]), dtype=bool)
        for stroke, label in enumerate(classes[name].tolist()):
            seen[label] = seen.get(label, 0) + 1
            chosen[name][stroke] = seen[label] % _EVERY == 0
    return chosen


def fraction_right(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float | None:
    """Mean over classes of the fraction of pixels that are labeled correctly; None without any pixel.

    Args:
        labels: classes of held-out pixels ``(N,)``.
        predicted: what they were labeled as ``(N,)``.
    """
    if not len(labels):
        return None
    return float(np.mean([np.mean(predicted[labels == label] == label) for label in np.unique(labels)]))
