"""What every latent solver takes and returns."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SolverResult:
    """Labelings of a batch, with what is known about their quality.

    Args:
        labels: uint8 ``(B, H, W)`` on the logits' device; 255 on padding and throughout images that failed.
        unary: unary energy of each labeling, float64 ``(B,)`` on the CPU; nan for images that failed.
        pairwise: pairwise energy, likewise.
        sweeps: sweeps (iterations) used, int64 ``(B,)`` on the CPU.
        converged: bool ``(B,)`` on the CPU, False where the solver stopped early or failed.
        lower_bound: no labeling has less energy than this, float64 ``(B,)`` on the CPU; nan where unknown.
        solve_seconds: wall time of the solve.
        transfer_seconds: wall time of moving data between devices.
        message: why, for each image that failed; empty for the others.
    """

    labels: Tensor
    unary: Tensor
    pairwise: Tensor
    sweeps: Tensor
    converged: Tensor
    lower_bound: Tensor
    solve_seconds: float
    transfer_seconds: float
    message: tuple[str, ...]

    @classmethod
    def from_labels(cls, labels: Tensor) -> "SolverResult":
        """A labeling of which nothing but the labels is known: its energies are nan.

        Args:
            labels: uint8 ``(B, H, W)``.

        Returns:
            The result, as of a solver that converged at once.

        Example:
            >>> SolverResult.from_labels(torch.zeros(1, 2, 2, dtype=torch.uint8)).energy
            tensor([nan], dtype=torch.float64)
        """
        unknown = torch.full((len(labels),), torch.nan, dtype=torch.float64)
        sweeps, converged = torch.zeros(len(labels), dtype=torch.int64), torch.ones(len(labels), dtype=torch.bool)
        return cls(labels, unknown, unknown, sweeps, converged, unknown, 0.0, 0.0, ("",) * len(labels))

    @property
    def energy(self) -> Tensor:
        """Total energy, float64 ``(B,)``."""
        return self.unary + self.pairwise

    @property
    def gap(self) -> Tensor:
        """How far above the optimum the labeling may be, float64 ``(B,)``; nan where no bound is known.

        ``(energy - lower_bound) / |energy|``, and the difference itself where the energy is 0.
        """
        size = self.energy.abs()
        return (self.energy - self.lower_bound) / torch.where(size > 0, size, 1.0)


class Solver(ABC):
    """Base class of latent solvers.

    A subclass keeps each constructor argument, unchanged, under an attribute of the same name, so that checkpoints can
    write it down. It never raises for an image that it cannot solve: it says so in `SolverResult.converged` and
    `SolverResult.message`, so that the other images, and the other ranks, go on. Wrong arguments raise.
    """

    @abstractmethod
    def solve(
        self,
        logits: Tensor,
        image: Tensor,
        *,
        seeds: Tensor | None = None,
        label_set: Tensor | None = None,
        valid: Tensor | None = None,
        initial: Tensor | None = None,
    ) -> SolverResult:
        """Find a labeling of each image of a batch.

        Args:
            logits: scores, float ``(B, K, H, W)``, any device and precision.
            image: RGB in 0..1, float ``(B, 3, H, W)`` on the same device.
            seeds: hard constraints, int64 ``(B, H, W)``: a class, or 255 where the pixel is free. None = no seeds.
            label_set: bool ``(B, K)``: the classes that may be used, besides those of the seeds. None = all.
            valid: bool ``(B, H, W)``, False on padding. None = no padding.
            initial: integer ``(B, H, W)``, a labeling to start from, 255 where there is none; it goes before whatever
                start the solver is set to.

        Returns:
            The labelings.

        Raises:
            ValueError: if the arguments do not fit together.
        """
