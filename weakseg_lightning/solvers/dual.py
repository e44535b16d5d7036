"""The dual of linear constraints on label distributions: its gradient and Hessian, for a batch of images at once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Dual:
    """A batch of dual functions, reduced to the K classes, C rows and R regions that the batch uses.

    For an image with n valid pixels i, and lambda in ``[0, upper]``,

        ``L(lambda) = sum_c lambda_c target_c - 1/n sum_i log sum_l exp(logits_il + sum_c lambda_c a_cl [i in R_c])``.

    The pixels lie in one dimension of length N. What has a value for each of them is a tensor, with the device and the
    precision of the logits; the rest is small and lies on the host in double precision, where the algebra of C rows is
    exact and quick: each evaluation moves C numbers to the device, and ``(R K)^2`` back.

    Args:
        logits: float ``(B, K, N)``, -inf for classes that a pixel may not take.
        masks: float ``(B, R, N)``, 1 on the valid pixels of each region; None where all rows use all N pixels.
        rows: a, ``(B, C, R * K)``, 0 outside the row's own region.
        target: ``b_c |R_c| / n``, ``(B, C)``.
        upper: upper bound of each dual variable, ``(B, C)``.
        least: the least value that the row can take, as a share of the image like ``target``, ``(B, C)``.
        span: the greatest value minus the least, ``(B, C)``.
        pixels: n, ``(B,)``, at least 1.
        softness: factor of all exponents, ``(B,)``; None = 1. Gradients are those of ``L / softness``.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 4 and 6.
    """

    logits: Tensor
    masks: Tensor | None
    rows: Array
    target: Array
    upper: Array
    least: Array
    span: Array
    pixels: Array
    softness: Array | None = None

    def select(self, images: NDArray[np.int64]) -> "Dual":
        """Return the problems of some images."""
        there = torch.from_numpy(images).to(self.logits.device)
        return Dual(
            logits=self.logits.index_select(0, there),
            masks=None if self.masks is None else self.masks.index_select(0, there),
            rows=self.rows[images],
            target=self.target[images],
            upper=self.upper[images],
            least=self.least[images],
            span=self.span[images],
            pixels=self.pixels[images],
            softness=None if self.softness is None else self.softness[images],
        )

    def distributions(self, duals: Array) -> Tensor:
        """Return P at the dual variables ``(B, C)``: float ``(B, K, N)``."""
        batch, classes, _ = self.logits.shape
        shift = (duals[:, None] @ self.rows).reshape(batch, -1, classes)
        # Softmax does not see what all classes share; without it, large duals round nothing away.
        shift = shift - shift.max(2, keepdims=True)
        there = torch.from_numpy(shift).to(self.logits.device, self.logits.dtype).mT
        scores = self.logits + there if self.masks is None else torch.baddbmm(self.logits, there, self.masks)
        if self.softness is not None:
            scores *= torch.from_numpy(self.softness).to(scores)[:, None, None]
        return scores.softmax(1)

    def gradient(self, probabilities: Tensor) -> Array:
        """Return the gradient of L, ``(B, C)``, where P is ``(B, K, N)``."""
        return self._gradient(_to_host(self._by_region(probabilities).sum(2)))

    def gradient_and_hessian(self, duals: Array) -> tuple[Array, Array]:
        """Return the gradient of L ``(B, C)`` and its negative Hessian ``(B, C, C)``."""
        members = self._by_region(self.distributions(duals))
        # Sums are not taken from the products: those may be in TF32, which Newton's direction bears, but not its end.
        sums = _to_host(torch.cat([members @ members.mT, members.sum(2, keepdim=True)], dim=2))
        batch, size, _ = sums.shape
        classes = self.logits.shape[1]
        pairs = sums[:, :, :-1].reshape(batch, size // classes, classes, size // classes, classes)
        covariance = -pairs
        within = np.einsum("brlsl->brsl", covariance)
        within += pairs.sum(4).transpose(0, 1, 3, 2)
        scaled = self.rows / self.pixels[:, None, None]
        if self.softness is not None:
            scaled = scaled * self.softness[:, None, None]
        hessian = scaled @ covariance.reshape(batch, size, size) @ self.rows.transpose(0, 2, 1)
        return self._gradient(sums[:, :, -1]), hessian

    def residual(self, duals: Array, gradient: Array) -> Array:
        """Return the KKT residual ``(B,)``: the largest component of the projected gradient."""
        outward = ((duals <= 0) & (gradient <= 0)) | ((duals >= self.upper) & (gradient >= 0))
        return np.asarray(np.abs(np.where(outward, 0, gradient)).max(1, initial=0.0))

    def _by_region(self, probabilities: Tensor) -> Tensor:
        """P within each region, ``(B, R * K, N)``."""
        if self.masks is None:
            return probabilities
        return (self.masks[:, :, None] * probabilities[:, None]).flatten(1, 2)

    def _gradient(self, sums: Array) -> Array:
        shares = sums / self.pixels[:, None]
        return np.asarray(self.target - (self.rows @ shares[:, :, None])[:, :, 0])


def _to_host(tensor: Tensor) -> Array:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
