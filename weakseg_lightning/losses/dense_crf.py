"""The dense CRF as a regularizer: all pairs of pixels, weighted by a Gaussian of their distance in space and color."""

from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.data import get_worker_info
from typing_extensions import override

from weakseg_lightning.checks import above_and_at_most, finite_above, finite_at_least, one_of
from weakseg_lightning.energies.lattice import Lattice, bilateral_features
from weakseg_lightning.losses.arguments import precise
from weakseg_lightning.losses.regularizer import BuildIn, Regularizer, check_regularized


def dense_crf_loss(
    logits: Tensor,
    image: Tensor,
    weight: float = 2e-9,
    sigma_rgb: float = 15.0,
    sigma_xy: float = 100.0,
    scale: float = 0.5,
    valid: Tensor | None = None,
    lattice: Lattice | None = None,
) -> Tensor:
    r"""Relaxed energy of the dense CRF, of the softmax of the logits (Dense-GD).

    ``-weight / B sum over images of sum_k S_k^T W S_k`` with ``S = softmax(logits)``, both taken at ``scale`` times
    the size, and ``W_pq = exp(-|p - q|^2 / (2 (scale sigma_xy)^2) - |I_p - I_q|^2 / (2 sigma_rgb^2))``, p = q included.

    It is divided by the number of images B, not by that of pixels or pairs, and a constant is left out: Potts would be
    ``sum_k S_k^T W (1 - S_k)``. So the loss is **negative**, and grows with the fourth power of the crop's side. The
    published 2e-9 belongs to crops of 513 at half resolution, beside a cross-entropy that is divided by a batch size of
    12 as well; beside the mean cross-entropy of this package that is 2.4e-8, and 16 times as much for half the side.

    W is applied by a permutohedral lattice, which computes a fixed multiple of it (about 1 / 1.7); the published
    weights are tied to that. The lattice's operator is not quite symmetric; here its symmetric part is used, which
    leaves the value as it is and makes the gradient ``-2 weight / B W S`` exact. Probabilities are resized bilinearly,
    the image by its nearest pixel, as in the official code.

    Args:
        logits: scores, float ``(B, K, H, W)``; half precision is computed in single.
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        weight: w, >= 0.
        sigma_rgb: width of the Gaussian in color, of 0..255, > 0.
        sigma_xy: its width in space, in pixels of the full size, > 0.
        scale: by which image and probabilities are resized, in 0..1.
        valid: bool ``(B, H, W)``, False on padding, which is left out, as are cells that touch it. None = no padding.
        lattice: that of :func:`dense_crf_lattice` for the same image, sigmas, scale and ``valid``; None = it is built.

    Returns:
        A scalar, <= 0; 0 with zero gradient where no pixel is valid.

    Raises:
        ValueError: if the arguments do not fit together or are out of range.

    References:
        Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov: On Regularized Losses for Weakly-supervised CNN
        Segmentation, ECCV 2018.
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 3.
    """
    finite_at_least("weight", weight, 0)
    valid = check_regularized(logits, image, valid)
    if lattice is None:
        lattice = dense_crf_lattice(image, sigma_rgb, sigma_xy, scale, valid)
    energy = dense_crf_energy(_resized(precise(logits).softmax(1), scale), lattice)  # W is 0 on padding
    return energy.sum() * (weight / max(len(logits), 1))


def dense_crf_energy(probabilities: Tensor, lattice: Lattice) -> Tensor:
    """Sum the relaxed dense CRF of each image: ``-sum_k S_k^T W S_k``, without weight.

    Args:
        probabilities: soft labelings S, float ``(B, K, h, w)``.
        lattice: W, built for images of this size.

    Returns:
        Energies, ``(B,)``, with the exact gradient ``-2 W S`` (once: there is no second derivative).
    """
    energy: Tensor = _energy(probabilities, lattice)
    return energy


def dense_crf_lattice(
    image: Tensor, sigma_rgb: float = 15.0, sigma_xy: float = 100.0, scale: float = 0.5, valid: Tensor | None = None
) -> Lattice:
    """Build the lattice that applies W to a batch of images, in several threads unless a loader's worker does it.

    Args:
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        sigma_rgb: width of the Gaussian in color, of 0..255, > 0.
        sigma_xy: its width in space, in pixels of the full size, > 0.
        scale: by which the image is resized, in 0..1.
        valid: bool ``(B, H, W)``, False on padding. None = no padding.

    Returns:
        The lattice, for images of ``scale`` times the size, on the image's device.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_kernel(sigma_rgb, sigma_xy, scale)
    inside = None if valid is None else _wholly_inside(valid, scale)
    small = image.float() if scale == 1 else functional.interpolate(image.float(), **_smaller(image, scale))
    features = bilateral_features(small, sigma_rgb, sigma_xy * scale)
    return Lattice.build(features, inside, num_threads=None if get_worker_info() is None else 1)


class DenseCRFLoss(Regularizer):
    """The dense CRF as a regularizer, see :func:`dense_crf_loss`: negative, and tied to the size of the crops.

    Args:
        weight: w, >= 0; four powers of the crop's side make up for a smaller crop.
        sigma_rgb: width of the Gaussian in color, of 0..255.
        sigma_xy: its width in space, in pixels.
        scale: resolution that it is computed at, as a fraction of the full one; ``sigma_xy`` shrinks with it.
        build_in: where the lattices are built: in the training ``step``, or in the ``workers`` that load the data
            (by one thread each, beside the step; more to hand over from process to process).

    Raises:
        ValueError: if an argument is out of range.
    """

    term = "dense_crf"

    def __init__(
        self,
        weight: float = 2e-9,
        sigma_rgb: float = 15.0,
        sigma_xy: float = 100.0,
        scale: float = 0.5,
        build_in: BuildIn = "step",
    ) -> None:
        super().__init__()
        finite_at_least("weight", weight, 0)
        _check_kernel(sigma_rgb, sigma_xy, scale)
        one_of("build_in", build_in, get_args(BuildIn))
        self.weight = weight
        self.sigma_rgb = sigma_rgb
        self.sigma_xy = sigma_xy
        self.scale = scale
        self.build_in = build_in

    @override
    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None, built: Any = None) -> Tensor:
        lattice = self.build(image, valid) if built is None else replace(built, num_threads=torch.get_num_threads())
        return dense_crf_loss(
            logits, image, self.weight, self.sigma_rgb, self.sigma_xy, self.scale, valid, lattice=lattice
        )

    @override
    def build(self, image: Tensor, valid: Tensor | None = None) -> Lattice:
        return dense_crf_lattice(image, self.sigma_rgb, self.sigma_xy, self.scale, valid)


class _Energy(torch.autograd.Function):
    """``-sum_k S_k^T W S_k`` of each image; W S is kept, so that the backward pass filters nothing."""

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, lattice: Lattice) -> Tensor:
        filtered = lattice.filter(probabilities, blur="mean")
        ctx.save_for_backward(filtered)
        return -(probabilities * filtered).flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (filtered,) = ctx.saved_tensors
        return -2 * gradient[:, None, None, None] * filtered, None


@torch.compiler.disable  # the lattice is compiled code already
def _energy(probabilities: Tensor, lattice: Lattice) -> Tensor:
    energy: Tensor = _Energy.apply(probabilities, lattice)
    return energy


def _resized(maps: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return maps
    return functional.interpolate(maps, **_smaller(maps, scale), mode="bilinear", align_corners=False)


def _smaller(maps: Tensor, scale: float) -> dict[str, Any]:
    """Arguments that resize maps, to one pixel at least."""
    size = [int(length * scale) for length in maps.shape[2:]]
    return {"scale_factor": scale} if all(size) else {"size": [max(1, length) for length in size]}


def _wholly_inside(valid: Tensor, scale: float) -> Tensor:
    """Cells of the resized map that mix valid pixels alone, bool ``(B, h, w)``."""
    return _resized(valid[:, None].float(), scale)[:, 0] > 1 - 1e-4


def _check_kernel(sigma_rgb: float, sigma_xy: float, scale: float) -> None:
    finite_above("sigma_rgb", sigma_rgb, 0)
    finite_above("sigma_xy", sigma_xy, 0)
    above_and_at_most("scale", scale, 0, 1)
