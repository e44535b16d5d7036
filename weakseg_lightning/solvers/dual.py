"""The dual of linear constraints on label distributions: its gradient and Hessian, for a batch of images at once."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dual:
    """A batch of dual functions, reduced to the K classes, C rows and R regions that the batch uses.

    For an image with n valid pixels i, and lambda in ``[0, upper]``,

        ``L(lambda) = sum_c lambda_c target_c - 1/n sum_i log sum_l exp(logits_il + sum_c lambda_c a_cl [i in R_c])``.

    The pixels lie in one dimension of length N. What has a value for each of them has the precision of the logits; the
    rest is double precision (where the device has it), so that the algebra of the C rows costs no accuracy.

    Args:
        logits: float ``(B, K, N)``, -inf for classes that a pixel may not take.
        masks: float ``(B, R, N)``, 1 on the valid pixels of each region; None where all rows use all N pixels.
        rows: a, float ``(B, C, R * K)``, 0 outside the row's own region.
        target: ``b_c |R_c| / n``, float ``(B, C)``.
        upper: upper bound of each dual variable, float ``(B, C)``.
        least: the least value that the row can take, as a share of the image like ``target``, float ``(B, C)``.
        span: the greatest value minus the least, float ``(B, C)``.
        pixels: n, float ``(B,)``, at least 1.
        softness: factor of all exponents, float ``(B,)``; None = 1. Gradients are those of ``L / softness``.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, eq. 4 and 6.
    """

    logits: Tensor
    masks: Tensor | None
    rows: Tensor
    target: Tensor
    upper: Tensor
    least: Tensor
    span: Tensor
    pixels: Tensor
    softness: Tensor | None = None

    def select(self, images: Tensor) -> "Dual":
        """Return the problems of some images, int64 ``(b,)``."""
        return replace(self, **{name: tensor.index_select(0, images) for name, tensor in vars(self).items() if tensor is not None})

    def distributions(self, duals: Tensor) -> Tensor:
        """Return P at the dual variables ``(B, C)``: float ``(B, K, N)``."""
        batch, classes, _ = self.logits.shape
        shift = (duals[:, None] @ self.rows).reshape(batch, -1, classes)
        # Softmax does not see what all classes share; without it, large duals round nothing away.
        shift = (shift - shift.amax(2, keepdim=True)).to(self.logits.dtype).mT
        scores = self.logits + shift if self.masks is None else torch.baddbmm(self.logits, shift, self.masks)
        if self.softness is not None:
            scores = scores * self.softness.to(scores)[:, None, None]
        return scores.softmax(1)

    def gradient(self, probabilities: Tensor) -> Tensor:
        """Return the gradient of L, ``(B, C)``, where P is ``(B, K, N)``."""
        return self._gradient(self._by_region(probabilities))

    def gradient_and_hessian(self, duals: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of L ``(B, C)`` and its negative Hessian ``(B, C, C)``."""
        members = self._by_region(self.distributions(duals))
        pairs = (members @ members.mT).to(self.rows) / self.pixels[:, None, None]
        if self.masks is None:
            covariance = torch.diag_embed(pairs.sum(2)) - pairs
        else:
            classes = self.logits.shape[1]
            batch, size, _ = pairs.shape
            blocks = pairs.reshape(batch, size // classes, classes, size // classes, classes)
            within = torch.diag_embed(blocks.sum(4).transpose(2, 3), dim1=2, dim2=4)
            covariance = (within - blocks).reshape(pairs.shape)
        hessian = self.rows @ covariance @ self.rows.mT
        return self._gradient(members), hessian if self.softness is None else hessian * self.softness[:, None, None]

    def residual(self, duals: Tensor, gradient: Tensor) -> Tensor:
        """Return the KKT residual ``(B,)``: the largest component of the projected gradient."""
        outward = ((duals <= 0) & (gradient <= 0)) | ((duals >= self.upper) & (gradient >= 0))
        return gradient.masked_fill(outward, 0).abs().amax(1)

    def straighten(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Measure how far each row is from its bound in log odds, which a dual changes evenly where pixels are alike.

        Where a class has probability 1e-6 and is to have 0.05, Newton's step is 5000 times too long; with log odds in
        place of shares it is right if all pixels are alike, and the same as Newton's near the bound.

        Args:
            gradient: of L, ``(B, C)``.

        Returns:
            What takes the gradient's place in Newton's step, and the dual that each row by itself would take if all
            pixels were alike, both ``(B, C)``.
        """
        constant = self.span <= 0
        span = self.span.masked_fill(constant, 1)
        reached = ((self.target - gradient - self.least) / span).clamp(1e-30, 1 - 1e-15)
        wanted = ((self.target - self.least) / span).clamp(1e-6, 1 - 1e-6)
        odds = wanted.logit() - reached.logit()
        straight = span * reached * (1 - reached) * odds
        alone = odds.abs() / span
        if self.softness is not None:
            alone = alone / self.softness[:, None]
        return torch.where((straight * gradient <= 0).logical_or_(constant), gradient, straight), alone

    def _by_region(self, probabilities: Tensor) -> Tensor:
        """P within each region, ``(B, R * K, N)``."""
        if self.masks is None:
            return probabilities
        return (self.masks[:, :, None] * probabilities[:, None]).flatten(1, 2)

    def _gradient(self, members: Tensor) -> Tensor:
        # Not taken from `pairs`: matrix products may be in TF32, which Newton's direction bears, but not its end.
        shares = members.sum(2).to(self.rows) / self.pixels[:, None]
        return self.target - (self.rows @ shares[:, :, None])[:, :, 0]
