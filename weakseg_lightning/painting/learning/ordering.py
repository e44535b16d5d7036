"""The order in which images are worth annotating: what the head does not know, unlike what it was shown."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["by_need", "descriptor_of", "uncertainty_of"]

_DIVERSE = 50
_REFERENCES = 500  # images that the worth of others is summed over; of more, some
_TINY = 1e-6
Floats = NDArray[np.float32]


def descriptor_of(features: Tensor, size: Sequence[int], padded: Sequence[int]) -> Floats:
    """Describe an image by the mean of each channel of its coarsest map, which tells most about what it shows.

    Args:
        features: that map, of the padded image, ``(1, C, h, w)``.
        size: height and width of the image.
        padded: height and width to which it was padded.

    Returns:
        The means ``(C,)``.
    """
    height, width = (-(-cells * n // m) for cells, n, m in zip(features.shape[2:], size, padded, strict=True))
    means: Floats = features[0, :, :height, :width].float().mean((1, 2)).numpy()
    return means


def uncertainty_of(scores: NDArray[np.float16]) -> float:
    """Mean entropy of log-probabilities ``(K, h, w)``, in [0, 1]: 1 where all classes are equally probable."""
    values = scores.astype(np.float32)
    entropy = -(np.exp(values) * values).sum(0).mean() / np.log(max(len(values), 2))
    return float(np.clip(entropy, 0, 1))


def by_need(descriptors: Floats, uncertainties: Floats, annotated: NDArray[np.bool_]) -> list[int]:
    """Order images by how far a stroke on them reaches into what is uncertain and unlike all that is annotated.

    An image is worth the sum, over the images of the folder, of the root of their uncertainty times the distance by
    which the nearest annotated image would come closer. Uncertainty times an image's own distance would pick outliers,
    from which nothing is learned about the others. The first 50 are chosen one after the other, each counted as
    annotated from then on: similar images follow late.

    Args:
        descriptors: of the images ``(n, C)``, see :func:`descriptor_of`.
        uncertainties: of the images ``(n,)``, see :func:`uncertainty_of`.
        annotated: which are annotated ``(n,)``.

    Returns:
        Numbers of those that are not, the one where a stroke helps most first.
    """
    scaled = (descriptors - descriptors.mean(0)) / (descriptors.std(0) + _TINY)
    others = slice(None, None, -(-len(scaled) // _REFERENCES))
    # The root: a head that has seen few images is sure of much that it has wrong.
    distances, weights = _distances(scaled, scaled[others]), np.sqrt(uncertainties[others])
    nearest = distances[annotated].min(0, initial=distances.max())
    left = ~annotated
    order: list[int] = []
    while left.any():
        worth = np.where(left, np.maximum(nearest - distances, 0) @ weights, -1)
        if len(order) == _DIVERSE:
            return [*order, *np.argsort(-worth, kind="stable")[: left.sum()].tolist()]
        order.append(int(np.argmax(worth)))
        left[order[-1]] = False
        nearest = np.minimum(nearest, distances[order[-1]])
    return order


def _distances(first: Floats, second: Floats) -> Floats:
    """Distances of all rows of one table to all of another."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    distances: Floats = np.sqrt(np.maximum(squares, 0))
    return distances
