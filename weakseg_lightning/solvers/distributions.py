"""What solvers for latent label distributions take and return."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from weakseg_lightning.constraints import LinearConstraints


@dataclass(frozen=True)
class DistributionResult:
    """Label distributions of a batch, with what is known about their quality.

    Args:
        probabilities: P, float ``(B, K, H, W)`` on the logits' device; sums to 1 on valid pixels, 0 on padding.
        duals: lambda, float ``(B, C)`` on the logits' device; 0 for rows that an image does not have.
        residual: KKT residual of each image, float ``(B,)`` on the logits' device: the largest component of the
            projected gradient of the dual, as a fraction of the image; nan where the solver knows none.
        violation: how far each row is from holding, ``max(0, b_c - a_c p)`` as a fraction of its region's pixels, float
            ``(B, C)`` on the logits' device.
        evaluations: evaluations of the dual and its gradient, int64 ``(B,)`` on the CPU.
        converged: bool ``(B,)`` on the CPU, False where the solver stopped early, or a hard row cannot be met.
        solve_seconds: wall time of the solve.
        transfer_seconds: wall time of moving data between devices.
        message: why, for each image that did not converge; empty for the others.
    """

    probabilities: Tensor
    duals: Tensor
    residual: Tensor
    violation: Tensor
    evaluations: Tensor
    converged: Tensor
    solve_seconds: float
    transfer_seconds: float
    message: tuple[str, ...]

    @property
    def labels(self) -> Tensor:
        """The most probable class of each pixel, uint8 ``(B, H, W)``, 255 on padding."""
        padding = self.probabilities.sum(1) == 0
        return torch.where(padding, 255, self.probabilities.argmax(1)).to(torch.uint8)


class DistributionSolver(ABC):
    """Base class of solvers that find a latent label distribution P near the network's output Q.

    A subclass keeps each constructor argument, unchanged, under an attribute of the same name, so that checkpoints can
    write it down. It never raises for an image that it cannot solve: it says so in `DistributionResult.converged` and
    `DistributionResult.message`, so that the other images, and the other ranks, go on. Wrong arguments raise.
    """

    @abstractmethod
    def solve(
        self, logits: Tensor, constraints: LinearConstraints, *, valid: Tensor | None = None
    ) -> DistributionResult:
        """Find the label distribution of each image of a batch.

        Args:
            logits: scores f, float ``(B, K, H, W)``, any device and precision.
            constraints: what is known about the images, on the same device.
            valid: bool ``(B, H, W)``, False on padding. None = no padding.

        Returns:
            The distributions.

        Raises:
            ValueError: if the arguments do not fit together.
        """
