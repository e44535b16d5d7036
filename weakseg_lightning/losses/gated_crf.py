"""The gated CRF as a regularizer: pairs of pixels in small windows, without a lattice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from weakseg_lightning.checks import at_least, finite_above, finite_at_least
from weakseg_lightning.energies.grid import shifted_pair
from weakseg_lightning.losses.arguments import precise
from weakseg_lightning.losses.distributed import mean_over
from weakseg_lightning.losses.regularizer import Regularizer, check_regularized


@dataclass(frozen=True)
class GaussianKernel:
    """A Gaussian of the distance in space and color, one summand of the gated CRF's kernel.

    Args:
        weight: its weight, >= 0.
        sigma_xy: width in space, in pixels of the map that the loss is computed on, > 0.
        sigma_rgb: width in color, of 0..1, > 0; None leaves color out.

    Raises:
        ValueError: if an argument is out of range.
    """

    weight: float = 1.0
    sigma_xy: float = 6.0
    sigma_rgb: float | None = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        finite_at_least("weight", self.weight, 0)
        finite_above("sigma_xy", self.sigma_xy, 0)
        if self.sigma_rgb is not None:
            finite_above("sigma_rgb", self.sigma_rgb, 0)


def gated_crf_loss(
    logits: Tensor,
    image: Tensor,
    weight: float = 0.1,
    kernels: Sequence[GaussianKernel] | None = None,
    radius: int = 5,
    downscale: int = 4,
    valid: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """Gated CRF of the softmax of the logits: near pixels of like color are to have like labels.

    ``weight / |D| sum_{p in D} sum_{q in S, 0 < |p - q|_max <= radius} k(p, q) (1 - sum_k S_p^k S_q^k)`` with
    ``k(p, q) = sum_m w_m exp(-|p - q|^2 / (2 sxy_m^2) - |I_p - I_q|^2 / (2 srgb_m^2))``, on maps that average blocks of
    ``downscale`` pixels; D are the valid cells, S those that exert influence. Each unordered pair counts twice where
    both are in both sets. It is divided by the number of cells in D in the whole batch. PyMIC's copy of the official
    code also counts pairs with cells outside the map unless it is given the sources: a constant, without gradient.

    Args:
        logits: scores, float ``(B, K, H, W)``; half precision is computed in single.
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        weight: of the loss, >= 0.
        kernels: the summands of k; None = the published one, ``GaussianKernel()``.
        radius: half side of the windows in cells, >= 1.
        downscale: pixels along the side of a cell, >= 1.
        valid: bool ``(B, H, W)``, False on padding, which is left out, as are cells that touch it. None = no padding.
        source: bool ``(B, H, W)``, pixels that influence others (the paper's gate); all valid ones by default.

    Returns:
        A scalar, >= 0; 0 with zero gradient where there is no pair.

    Raises:
        ValueError: if the arguments do not fit together or are out of range.

    References:
        Obukhov, Georgoulis, Dai, Van Gool: Gated CRF Loss for Weakly Supervised Semantic Image Segmentation,
        arXiv 1906.04651, 2019.

    Example:
        >>> one_hot = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
        >>> far = (GaussianKernel(sigma_xy=1e3),)
        >>> gated_crf_loss(one_hot, torch.zeros(1, 3, 1, 2), 1.0, far, downscale=1)  # 2 pixels, each with one neighbor
        tensor(1.0000)
    """
    kernels = _checked(weight, kernels, radius, downscale)
    valid = check_regularized(logits, image, valid)
    if source is not None:
        source = check_regularized(logits, image, source)
    inside = _pooled(valid[:, None].float(), downscale) == 1
    influences = inside if source is None else inside & (_pooled(source[:, None].float(), downscale) == 1)
    probabilities = _pooled(precise(logits).softmax(1), downscale)
    colors = _pooled(image.to(probabilities), downscale)
    gates = inside.to(probabilities), influences.to(probabilities)
    total = probabilities.flatten()[:0].sum()  # 0 with a gradient, should there be no pair
    for dy, dx in _half_window(radius, *probabilities.shape[2:]):
        affinity = _affinity(colors, gates, kernels, dy, dx)
        first, second = shifted_pair(probabilities, dy, dx)
        total = total + (affinity * (1 - (first * second).sum(1))).sum()
    return mean_over(total * weight, inside.sum())


class GatedCRFLoss(Regularizer):
    """The gated CRF as a regularizer, see :func:`gated_crf_loss`; the defaults are the published values.

    Args:
        weight: of the loss, >= 0.
        kernels: the summands of its kernel; none given: the published one.
        radius: half side of the windows in cells, >= 1.
        downscale: pixels along the side of a cell, >= 1.

    Raises:
        ValueError: if an argument is out of range.
    """

    term = "gated_crf"

    def __init__(
        self,
        weight: float = 0.1,
        kernels: Sequence[GaussianKernel] | None = None,
        radius: int = 5,
        downscale: int = 4,
    ) -> None:
        super().__init__()
        _checked(weight, kernels, radius, downscale)
        self.weight = weight
        self.kernels = kernels
        self.radius = radius
        self.downscale = downscale

    @override
    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None, built: Any = None) -> Tensor:
        return gated_crf_loss(logits, image, self.weight, self.kernels, self.radius, self.downscale, valid)


def _affinity(
    colors: Tensor, gates: tuple[Tensor, Tensor], kernels: Sequence[GaussianKernel], dy: int, dx: int
) -> Tensor:
    """Kernel of all pairs one step apart, in both directions, as far as the gates let it through."""
    first, second = shifted_pair(colors, dy, dx)
    contrast = (first - second).square().sum(1)
    total = torch.zeros_like(contrast)
    for kernel in kernels:
        exponent = torch.full_like(contrast, -(dy**2 + dx**2) / (2 * kernel.sigma_xy**2))
        if kernel.sigma_rgb is not None:
            exponent = exponent - contrast / (2 * kernel.sigma_rgb**2)
        total = total + kernel.weight * exponent.exp()
    (inside_first, inside_second), (from_first, from_second) = (shifted_pair(gate, dy, dx) for gate in gates)
    return total * (inside_first * from_second + inside_second * from_first)[:, 0]


def _half_window(radius: int, height: int, width: int) -> Iterator[tuple[int, int]]:
    """Steps to one of each two opposite neighbors, no longer than the map."""
    for dy in range(min(radius, height - 1) + 1):
        for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            if dy > 0 or dx > 0:
                yield dy, dx


def _pooled(maps: Tensor, downscale: int) -> Tensor:
    """Means over cells of about ``downscale`` pixels; a size that it does not divide makes cells that overlap."""
    if downscale == 1:
        return maps
    height, width = (max(1, round(length / downscale)) for length in maps.shape[2:])
    return functional.adaptive_avg_pool2d(maps, (height, width))


def _checked(
    weight: float, kernels: Sequence[GaussianKernel] | None, radius: int, downscale: int
) -> Sequence[GaussianKernel]:
    finite_at_least("weight", weight, 0)
    if kernels is not None and not kernels:
        raise ValueError("`kernels` must hold at least one kernel, got none")
    at_least("radius", radius, 1)
    at_least("downscale", downscale, 1)
    return [GaussianKernel()] if kernels is None else kernels
