"""The dual of linear constraints on label distributions: its gradient and Hessian, for a batch of images at once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning._native import _core
from weakseg_lightning.devices import to_device

Array = NDArray[np.float64]
STEEP = 25.0  # odds are taken again where the duals have since moved the classes' logits apart by more than this
FAINT = 60.0  # logits further below the best are lifted to it, lest odds times weights underflow, which is slow
THREAD_WORK = 2**22  # products and sums that are worth a thread


@dataclass(frozen=True)
class Odds:
    """``exp(logits + shift)``, at most 1, up to a factor for each pixel: ``table (B, K, N)``, ``shift (B, K)``."""

    table: Tensor
    shift: Array


@dataclass
class Dual:
    """A batch of dual functions, reduced to the K classes, C rows and R regions that the batch uses.

    For an image with n valid pixels i, and lambda in ``[0, upper]``,

        ``L(lambda) = sum_c lambda_c target_c - 1/n sum_i log sum_l exp(logits_il + sum_c lambda_c a_cl [i in R_c])``.

    The pixels lie in one dimension of length N. What has a value for each of them is a tensor, with the device and the
    precision of the logits; the rest is small and lies on the host in double precision, where the algebra of C rows is
    exact and quick: each evaluation moves C numbers to the device, and ``(R K)^2`` back.

    Args:
        all_logits: float ``(B, K, N)``, -inf for classes that a pixel may not take.
        masks: float ``(B, R, N)``, 1 on the valid pixels of each region; None where all rows use all N pixels.
        rows: a, ``(B, C, R * K)``, 0 outside the row's own region.
        target: ``b_c |R_c| / n``, ``(B, C)``.
        upper: upper bound of each dual variable, ``(B, C)``.
        least: the least value that the row can take, as a fraction of the image like ``target``, ``(B, C)``.
        span: the greatest value minus the least, ``(B, C)``.
        pixels: n, ``(B,)``, at least 1.
        softness: factor of all exponents, ``(B,)``; None = 1. Gradients are those of ``L / softness``.
        images: the places of the problems' images in ``all_logits``; None = those are theirs.
        odds: kept from one evaluation for the next; None = none yet.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 4 and 6.
    """

    all_logits: Tensor
    masks: Tensor | None
    rows: Array
    target: Array
    upper: Array
    least: Array
    span: Array
    pixels: Array
    softness: Array | None = None
    images: NDArray[np.int64] | None = None
    odds: Odds | None = None

    @cached_property
    def logits(self) -> Tensor:
        """The logits of these images, copied only if needed: mostly `odds` stand in for them."""
        if self.images is None:
            return self.all_logits
        return self.all_logits.index_select(0, to_device(torch.from_numpy(self.images), self.all_logits.device))

    def select(self, images: NDArray[np.int64]) -> "Dual":
        """Return the problems of some images."""
        there = to_device(torch.from_numpy(images), self.all_logits.device)
        odds = self.odds
        return Dual(
            all_logits=self.all_logits,
            images=images if self.images is None else self.images[images],
            masks=None if self.masks is None else self.masks.index_select(0, there),
            rows=self.rows[images],
            target=self.target[images],
            upper=self.upper[images],
            least=self.least[images],
            span=self.span[images],
            pixels=self.pixels[images],
            softness=None if self.softness is None else self.softness[images],
            odds=None if odds is None else Odds(odds.table.index_select(0, there), odds.shift[images]),
        )

    def distributions(self, duals: Array) -> Tensor:
        """Return P at the dual variables ``(B, C)``: float ``(B, K, N)``."""
        return self._softmax(self._shift(duals))

    def gradient(self, probabilities: Tensor) -> Array:
        """Return the gradient of L, ``(B, C)``, where P is ``(B, K, N)``."""
        return self._gradient(_to_host(self._by_region(probabilities).sum(2)))

    def gradient_and_hessian(self, duals: Array) -> tuple[Array, Array]:
        """Return the gradient of L ``(B, C)`` and its negative Hessian ``(B, C, C)``."""
        sums = self._moments(self._shift(duals))
        batch, size, _ = sums.shape
        classes = self.all_logits.shape[1]
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

    def _shift(self, duals: Array) -> Array:
        """The amounts that the duals add to the logits of each region's pixels, ``(B, R, K)``."""
        shift = (duals[:, None] @ self.rows).reshape(len(duals), -1, self.all_logits.shape[1])
        # Softmax does not see what all classes share; without it, large duals round nothing away.
        return np.asarray(shift - shift.max(2, keepdims=True))

    def _softmax(self, shift: Array) -> Tensor:
        there = to_device(torch.from_numpy(shift).to(self.logits.dtype), self.logits.device).mT
        scores = self.logits + there if self.masks is None else torch.baddbmm(self.logits, there, self.masks)
        if self.softness is not None:
            scores *= to_device(torch.from_numpy(self.softness).to(scores.dtype), scores.device)[:, None, None]
        return scores.softmax(1)

    def _moments(self, shift: Array) -> Array:
        """The result of `_sums` for the members of each region, ``(B, R K, R K + 1)``."""
        if self.masks is not None or self.softness is not None:
            return _sums(self._by_region(self._softmax(shift)))
        # All pixels have the same shift: P is odds times weights, of which only the former are taken for each pixel.
        odds, weights = self._weighted_odds(shift[:, 0])
        if odds.device.type == "cpu" and odds.dtype == torch.float32:
            return _label_moments(odds, weights)
        there = to_device(torch.from_numpy(weights).to(odds.dtype), odds.device)[:, :, None]
        members = odds * there
        return _sums(members.div_(members.sum(1, keepdim=True)))

    def _weighted_odds(self, shift: Array) -> tuple[Tensor, Array]:
        """Return the odds at a shift near this one, and the weights ``(B, K)`` that lead from it to this one."""
        if self.odds is not None:
            further = shift - self.odds.shift
            further -= further.max(1, keepdims=True)
            if further.min() >= -STEEP:
                return self.odds.table, np.exp(further)
        scores = self.logits + to_device(torch.from_numpy(shift).to(self.logits.dtype), self.logits.device)[:, :, None]
        scores -= scores.amax(1, keepdim=True)
        self.odds = Odds(scores.clamp_(min=-FAINT).exp_(), shift)
        return self.odds.table, np.ones_like(shift)

    def _by_region(self, probabilities: Tensor) -> Tensor:
        """P within each region, ``(B, R * K, N)``."""
        if self.masks is None:
            return probabilities
        return (self.masks[:, :, None] * probabilities[:, None]).flatten(1, 2)

    def _gradient(self, sums: Array) -> Array:
        shares = sums / self.pixels[:, None]
        return np.asarray(self.target - (self.rows @ shares[:, :, None])[:, :, 0])


def _label_moments(odds: Tensor, weights: Array) -> Array:
    """The result of `_sums` for P, which is odds times weights, without writing P down."""
    batch, classes, _ = odds.shape
    sums = np.empty((batch, classes, classes + 1))
    threads = min(torch.get_num_threads(), odds.numel() * classes // THREAD_WORK)
    _core.label_moments(odds.numpy(), weights, sums, threads)
    return sums


def _sums(members: Tensor) -> Array:
    """Sums over N of the products of all members ``(B, M, N)``, and in the last column of each: ``(B, M, M + 1)``."""
    # Sums are not taken from the products: those may be in TF32, which Newton's direction bears, but not its end.
    return _to_host(torch.cat([members @ members.mT, members.sum(2, keepdim=True)], dim=2))


def _to_host(tensor: Tensor) -> Array:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
