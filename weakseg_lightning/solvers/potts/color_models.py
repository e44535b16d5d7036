"""Gaussian mixtures of colors: what a class looks like, from some of its pixels."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS = 32
"""Levels per channel, to which colors are rounded: pixels of equal color are counted once, with their number."""

_ROUNDS = 10
_NOISE = 5e-4
"""Least variance of a color channel in 0..1: a camera's noise, above that of rounding, 1 / (12 LEVELS^2)."""


@dataclass(frozen=True)
class ColorTable:
    """The colors of an image and where they are.

    Args:
        colors: RGB in 0..1, ``(U, 3)``, each of them once.
        index: the color of each pixel, int ``(H, W)``.
    """

    colors: Floats
    index: NDArray[np.int64]

    @classmethod
    def of(cls, image: NDArray[np.float32]) -> Self:
        """Round the colors of an image, RGB in 0..1 ``(3, H, W)``, and list them."""
        levels = np.clip(image * LEVELS, 0, LEVELS - 1).astype(np.int64)
        codes = (levels[0] * LEVELS + levels[1]) * LEVELS + levels[2]
        found, index = np.unique(codes, return_inverse=True)
        channels = np.stack([found // LEVELS**2, found // LEVELS % LEVELS, found % LEVELS], axis=1)
        return cls((channels + 0.5) / LEVELS, index.reshape(codes.shape))

    def count(self, pixels: NDArray[np.bool_]) -> Floats:
        """Count how many of some pixels, bool ``(H, W)``, have each color, ``(U,)``."""
        return np.bincount(self.index[pixels], minlength=len(self.colors)).astype(np.float64)


@dataclass(frozen=True)
class ColorMixture:
    """A mixture of Gaussians over colors.

    Args:
        shares: weights of the Gaussians, ``(J,)``, with sum 1.
        means: ``(J, 3)``.
        covariances: ``(J, 3, 3)``.
    """

    shares: Floats
    means: Floats
    covariances: Floats

    @classmethod
    def fitted(cls, colors: Floats, counts: Floats, components: int) -> Self:
        """Fit a mixture by expectation maximization, from clusters split along their principal axes.

        Args:
            colors: RGB in 0..1, ``(U, 3)``.
            counts: how many pixels have each color, ``(U,)``, one at least.
            components: at most so many Gaussians.

        References:
            Orchard and Bouman, Color Quantization of Images, IEEE Transactions on Signal Processing 1991 (splitting).
        """
        used = counts > 0
        colors, counts = colors[used], counts[used]
        mixture = cls._of_parts(colors, counts, _split(colors, counts, components))
        for _ in range(_ROUNDS):
            joint = mixture._log_joint(colors)
            mixture = cls._of_parts(colors, counts, np.exp(joint - _log_sum(joint)))
        return mixture

    @classmethod
    def _of_parts(cls, colors: Floats, counts: Floats, parts: Floats) -> Self:
        """Gaussians of what belongs to each part, in shares ``(U, J)``; parts without pixels are dropped."""
        weights = counts[:, None] * parts
        sizes = weights.sum(0)
        kept = sizes > 1e-6 * counts.sum()
        weights, sizes = weights[:, kept], sizes[kept]
        means = weights.T @ colors / sizes[:, None]
        off = colors[:, None] - means
        covariances = np.einsum("uj,uja,ujb->jab", weights, off, off) / sizes[:, None, None] + _NOISE * np.eye(3)
        return cls(sizes / sizes.sum(), means, covariances)

    def log_density(self, colors: Floats) -> Floats:
        """Logarithm of the density at colors ``(U, 3)``, ``(U,)``."""
        return _log_sum(self._log_joint(colors))[:, 0]

    def _log_joint(self, colors: Floats) -> Floats:
        """Logarithm of share times density of each Gaussian, ``(U, J)``."""
        roots = np.linalg.cholesky(np.linalg.inv(self.covariances))
        off = np.einsum("uja,jab->ujb", colors[:, None] - self.means, roots)
        log_norm = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1) - 1.5 * np.log(2 * np.pi)
        joint: Floats = np.log(self.shares) + log_norm - 0.5 * (off**2).sum(2)
        return joint


def _log_sum(joint: Floats) -> Floats:
    largest = joint.max(1, keepdims=True)
    total: Floats = largest + np.log(np.exp(joint - largest).sum(1, keepdims=True))
    return total


def _split(colors: Floats, counts: Floats, components: int) -> Floats:
    """Split the colors into clusters, the one that spreads most next, at its mean: ``(U, J)`` of 0 and 1."""
    cluster = np.zeros(len(colors), dtype=np.int64)
    for number in range(1, components):
        spreads = [_principal(colors, np.where(cluster == other, counts, 0)) for other in range(number)]
        chosen = int(np.argmax([spread for spread, _, _ in spreads]))
        spread, mean, axis = spreads[chosen]
        if spread < 1e-9:  # nothing but single colors is left
            break
        cluster[(cluster == chosen) & ((colors - mean) @ axis > 0)] = number
    parts: Floats = np.eye(int(cluster.max()) + 1)[cluster]
    return parts


def _principal(colors: Floats, counts: Floats) -> tuple[float, Floats, Floats]:
    """Spread of a cluster along its principal axis (variance times pixels), its mean, and that axis."""
    mean = counts @ colors / counts.sum()
    off = colors - mean
    values, axes = np.linalg.eigh((counts[:, None] * off).T @ off)
    return float(values[-1]), mean, axes[:, -1]
