"""Regularizers of the network's output that medical scribble benchmarks compare with: entropy, contours, Mumford-Shah.

They are those of PyMIC and WSL4MIS, computed over the pixels that are no padding. S = softmax(logits).
"""

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from weakseg_lightning.checks import finite_at_least, one_of
from weakseg_lightning.energies.grid import existing_edges
from weakseg_lightning.losses.arguments import check_mask, precise
from weakseg_lightning.losses.distributed import mean_over
from weakseg_lightning.losses.potts import relaxed_potts_energy
from weakseg_lightning.losses.regularizer import Regularizer, check_regularized

Penalty = Literal["absolute", "quadratic"]

_PENALTIES: tuple[Penalty, ...] = ("absolute", "quadratic")


def entropy_loss(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean entropy of the network's output, as a fraction of the entropy of a guess (entropy minimization).

    ``-1 / (|D| ln K) sum_{p in D} sum_k S_p^k ln S_p^k``, D = the valid pixels: 0 where the network is sure, 1 where it
    is not at all. Exact, from the logits; PyMIC takes the entropy of ``0.999 S + 0.0005``, WSL4MIS ``ln(S + 1e-6)``.

    Args:
        logits: scores, float ``(B, K, H, W)``; half precision is computed in single.
        valid: bool ``(B, H, W)``, False on padding, which is left out. None = no padding.

    Returns:
        A scalar in 0..1; 0 with zero gradient where nothing is valid.

    Raises:
        ValueError: if the shapes do not fit together.

    References:
        Grandvalet and Bengio: Semi-supervised Learning by Entropy Minimization, NeurIPS 2004.

    Example:
        >>> entropy_loss(torch.zeros(1, 4, 2, 2))
        tensor(1.)
    """
    logits, valid = _inside(logits, valid)
    log_s = logits.log_softmax(1)
    entropy = -(log_s.exp() * log_s).sum(1) / math.log(logits.shape[1])
    return mean_over((entropy * valid).sum(), valid.sum())


def total_variation_loss(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Length of the contours of the network's output, by morphology (what PyMIC and WSL4MIS call total variation).

    ``1 / (K |D|) sum_{p in D} sum_k (max_{q ~ p} m_q^k - m_p^k)`` with the erosion ``m_q^k = min_{r ~ q} S_r^k``; ``~``
    joins the pixels of windows of 3 x 3 that are valid. The mean over pixels and classes of the rim, one pixel wide,
    that an erosion followed by a dilation restores. The total variation itself is
    :class:`weakseg_lightning.losses.GridPottsLoss` with ``relaxation: absolute``.

    PyMIC scales S by 0.999, and takes windows through all axes behind the batch: in a stack of slices also through the
    neighboring slices, in a batch without that axis through the neighboring classes. WSL4MIS leaves out the batch's
    first image, where its class of background was meant.

    Args:
        logits: scores, float ``(B, K, H, W)``; half precision is computed in single.
        valid: bool ``(B, H, W)``, False on padding, which is left out. None = no padding.

    Returns:
        A scalar in 0..1; 0 with zero gradient where nothing is valid.

    Raises:
        ValueError: if the shapes do not fit together.

    References:
        Luo et al.: WORD: A Large Scale Dataset, Benchmark and Clinical Applicable Study for Abdominal Organ
        Segmentation from CT Image, Medical Image Analysis 2022, arXiv 2111.02403.

    Example:
        >>> line = torch.tensor([[[[-99.0, -99.0, 99.0, 99.0]], [[99.0, 99.0, -99.0, -99.0]]]])
        >>> total_variation_loss(line)  # of each class the rim of one pixel: 2 of 2 x 4
        tensor(0.2500)
    """
    logits, valid = _inside(logits, valid)
    inside = valid[:, None]
    # Probabilities are in 0..1: 1 never wins a minimum, nor 0 a maximum, so that padding has no influence.
    eroded = -_largest_around(-torch.where(inside, logits.softmax(1), 1))
    rim = _largest_around(torch.where(inside, eroded, 0)) - eroded
    return mean_over((rim * inside).sum() / logits.shape[1], valid.sum())


def mumford_shah_loss(
    logits: Tensor,
    image: Tensor,
    contour_weight: float = 1.0,
    penalty: Penalty = "absolute",
    valid: Tensor | None = None,
) -> Tensor:
    """Piecewise constant Mumford-Shah functional: classes of even color with short contours.

    ``1 / (K |D|) sum_images sum_k [ sum_p S_p^k |I_p - c_k|^2 / C + mu sum_{pq} d(S_p^k, S_q^k) ]`` with the mean color
    ``c_k = sum_p S_p^k I_p / sum_p S_p^k`` of class k in the image, C color channels, and pq the pairs of pixels that
    are beside or above one another. d is ``|a - b|`` (``absolute``, l1 in PyMIC) or ``(a - b)^2`` (``quadratic``, l2).

    The peers add up the channels in place of their mean, which is the same for the gray images that they have (three
    equal channels here), and give them zero mean and unit variance. PyMIC divides by K |D| as here; WSL4MIS does not
    divide at all, and its call exchanges image and output.

    Args:
        logits: scores, float ``(B, K, H, W)``; half precision is computed in single.
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        contour_weight: mu, >= 0.
        penalty: the difference d.
        valid: bool ``(B, H, W)``, False on padding, which is left out. None = no padding.

    Returns:
        A scalar, >= 0; 0 with zero gradient where nothing is valid.

    Raises:
        ValueError: if the arguments do not fit together or are out of range.

    References:
        Kim and Ye: Mumford-Shah Loss Functional for Image Segmentation with Deep Learning, IEEE Transactions on Image
        Processing 29, 2020.

    Example:
        >>> halves = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
        >>> mumford_shah_loss(halves, torch.rand(1, 3, 1, 2))  # each class has one color; 2 / (2 x 2) for the contour
        tensor(0.5000)
    """
    _check_mumford_shah(contour_weight, penalty)
    valid = check_regularized(logits, image, valid)
    logits, valid = _inside(logits, valid)
    s = logits.softmax(1) * valid[:, None]
    contours = 2 * relaxed_potts_energy(s, existing_edges(valid, 4).to(s), 4, penalty)
    total = _spread(s, torch.where(valid[:, None], image.to(s), 0)) + contour_weight * contours
    return mean_over(total.sum() / logits.shape[1], valid.sum())


class _OfOutput(Regularizer):
    """A regularizer of the network's output alone.

    Args:
        weight: of the loss, >= 0; PyMIC's by default.

    Raises:
        ValueError: if it is out of range.
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        finite_at_least("weight", weight, 0)
        self.weight = weight

    @override
    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None, built: Any = None) -> Tensor:
        return self.weight * self.loss(logits, valid)

    @abstractmethod
    def loss(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        """Compute the term before it is weighted."""


class EntropyLoss(_OfOutput):
    """Entropy minimization as a regularizer, see :func:`entropy_loss`."""

    term = "entropy"

    @override
    def loss(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        return entropy_loss(logits, valid)


class TotalVariationLoss(_OfOutput):
    """The length of contours as a regularizer, see :func:`total_variation_loss`; WSL4MIS has a weight of 0.01."""

    term = "total_variation"

    @override
    def loss(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        return total_variation_loss(logits, valid)


class MumfordShahLoss(Regularizer):
    """The Mumford-Shah functional as a regularizer, see :func:`mumford_shah_loss`.

    Args:
        weight: of the loss, >= 0; PyMIC's by default, for images of unit variance.
        contour_weight: mu, >= 0.
        penalty: the difference d of neighbors, ``absolute`` or ``quadratic``.

    Raises:
        ValueError: if an argument is out of range.
    """

    term = "mumford_shah"

    def __init__(self, weight: float = 0.05, contour_weight: float = 1.0, penalty: Penalty = "absolute") -> None:
        super().__init__()
        finite_at_least("weight", weight, 0)
        _check_mumford_shah(contour_weight, penalty)
        self.weight = weight
        self.contour_weight = contour_weight
        self.penalty: Penalty = penalty

    @override
    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None, built: Any = None) -> Tensor:
        return self.weight * mumford_shah_loss(logits, image, self.contour_weight, self.penalty, valid)


def _inside(logits: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The scores in single precision at least, 0 on padding, and the valid pixels."""
    if logits.ndim != 4 or not logits.is_floating_point():
        raise ValueError(f"`logits` must be a float (B, K, H, W), got {logits.dtype} {tuple(logits.shape)}")
    plane = (logits.shape[0], *logits.shape[2:])
    check_mask("valid", valid, plane)
    if valid is None:
        valid = torch.ones(plane, dtype=torch.bool, device=logits.device)
    return torch.where(valid[:, None], precise(logits), 0), valid


def _largest_around(maps: Tensor) -> Tensor:
    return functional.max_pool2d(maps, 3, stride=1, padding=1)


def _spread(s: Tensor, image: Tensor) -> Tensor:
    """Weighted squared distance of the colors of each image to the means of their classes, float ``(B,)``."""
    areas = s.sum((2, 3)).clamp(min=torch.finfo(s.dtype).tiny)
    total = s.new_zeros(len(s))
    for channel in image.unbind(1):
        # The means minimize the sum: its derivative by them is 0, so that they are constants for the gradient.
        means = ((s * channel[:, None]).sum((2, 3)) / areas).detach()[..., None, None]
        total = total + (s * (channel[:, None] - means).square()).sum((1, 2, 3))
    return total / image.shape[1]


def _check_mumford_shah(contour_weight: float, penalty: Penalty) -> None:
    finite_at_least("contour_weight", contour_weight, 0)
    one_of("penalty", penalty, _PENALTIES)
