"""The order in which images are worth annotating: what the head does not know, unlike what it was shown."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["by_need", "descriptor_of", "uncertainty_of"]

_DIVERSE = 50
_TINY = 1e-6
Floats = NDArray[np.float32]


def descriptor_of(maps: Sequence[Tensor], size: Sequence[int], padded: Sequence[int]) -> Floats:
    """Describe an image by the mean of each channel of its features.

    Args:
        maps: of the padded image, ``(1, c, h, w)`` each.
        size: height and width of the image.
        padded: height and width to which it was padded.

    Returns:
        The means ``(C,)``.
    """
    means = []
    for features in maps:
        height, width = (-(-cells * n // m) for cells, n, m in zip(features.shape[2:], size, padded, strict=True))
        means.append(features[0, :, :height, :width].float().mean((1, 2)))
    return torch.cat(means).numpy()


def uncertainty_of(scores: NDArray[np.float16]) -> float:
    """Mean entropy of log-probabilities ``(K, h, w)``, in [0, 1]: 1 where all classes are equally probable."""
    values = scores.astype(np.float32)
    entropy = -(np.exp(values) * values).sum(0).mean() / np.log(max(len(values), 2))
    return float(np.clip(entropy, 0, 1))


def by_need(descriptors: Floats, uncertainties: Floats, annotated: NDArray[np.bool_]) -> list[int]:
    """Order images by uncertainty times the distance to the nearest one that is annotated.

    The first 50 are chosen one after the other, each counted as annotated from then on: similar images follow late.
    Where nothing is annotated, the first is the image closest to the mean of all.

    Args:
        descriptors: of the images ``(n, C)``, see :func:`descriptor_of`.
        uncertainties: of the images ``(n,)``, see :func:`uncertainty_of`.
        annotated: which are annotated ``(n,)``.

    Returns:
        Numbers of those that are not, the one where a stroke helps most first.
    """
    scaled = (descriptors - descriptors.mean(0)) / (descriptors.std(0) + _TINY)
    left = ~annotated
    if left.all() and left.any():
        distances = 1 / (1 + np.linalg.norm(scaled, axis=1))
    else:
        distances = np.full(len(scaled), np.inf, dtype=np.float32)
        for number in np.flatnonzero(annotated).tolist():
            distances = _nearer(distances, scaled, number)
    order: list[int] = []
    while left.any() and len(order) < _DIVERSE:
        first = int(np.argmax(np.where(left, uncertainties * distances, -1)))
        distances = _nearer(distances if annotated.any() or order else np.inf, scaled, first)
        left[first] = False
        order.append(first)
    rest = np.flatnonzero(left)
    return [*order, *rest[np.argsort(-(uncertainties * distances)[rest], kind="stable")].tolist()]


def _nearer(distances: Floats | float, scaled: Floats, number: int) -> Floats:
    """Distances to the nearest image once this one counts."""
    nearer: Floats = np.minimum(distances, np.linalg.norm(scaled - scaled[number], axis=1))
    return nearer
