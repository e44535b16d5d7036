"""The contracts of latent solvers: labelings, label distributions, and the refinement of predictions."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.solvers.arguments import check_constraints, check_refined
from weakseg_lightning.solvers.problem import Problem, SeedsOutsideError, check_problem


@dataclass(frozen=True)
class SolverResult:
    """Labelings of a batch, with what is known about their quality.

    Args:
        labels: uint8 ``(B, H, W)`` on the logits' device; 255 on padding and throughout images that failed.
        unary: unary energy of each labeling, float64 ``(B,)`` on the CPU; nan for images that failed.
        pairwise: pairwise energy of each labeling, float64 ``(B,)`` on the CPU; nan for images that failed.
        sweeps: sweeps (iterations) used, int64 ``(B,)`` on the CPU.
        converged: bool ``(B,)`` on the CPU, False where the solver stopped early or failed.
        lower_bound: no labeling has less energy than this, float64 ``(B,)`` on the CPU; nan where unknown.
        message: why, for each image that failed; empty for the others.
        transfer_seconds: wall time of moving data between devices.
        solve_seconds: wall time of the rest of the solve.
    """

    labels: Tensor
    unary: Tensor
    pairwise: Tensor
    sweeps: Tensor
    converged: Tensor
    lower_bound: Tensor
    message: tuple[str, ...]
    transfer_seconds: float = 0.0
    solve_seconds: float = 0.0

    @classmethod
    def from_labels(cls, labels: Tensor) -> Self:
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
        return cls(labels, unknown, unknown, sweeps, converged, unknown, ("",) * len(labels))

    @property
    def latent(self) -> Tensor:
        """The labels, which the network follows."""
        return self.labels

    @property
    def energy(self) -> Tensor:
        """Total energy, float64 ``(B,)``."""
        return self.unary + self.pairwise

    @property
    def gap(self) -> Tensor:
        """The most that the labeling may be above the optimum, float64 ``(B,)``; nan where no bound is known.

        ``(energy - lower_bound) / |energy|``, and the difference itself where the energy is 0.
        """
        size = self.energy.abs()
        return (self.energy - self.lower_bound) / torch.where(size > 0, size, 1.0)


class Solver(ABC):
    """Base class of latent solvers: a subclass writes `_solve`.

    A subclass is a frozen dataclass, or keeps each constructor argument, unchanged, under an attribute of the same
    name, so that checkpoints can write it down. It never raises for an image that it cannot solve: it says so in
    `SolverResult.converged` and `SolverResult.message`, so that the other images, and the other ranks, go on.
    """

    label_set_on_host: ClassVar[bool] = False
    """True if `solve` takes label sets on the CPU, whatever the device of the scores: see `Problem.seeds_unseen`."""

    @final
    @torch.no_grad()
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
            label_set: bool ``(B, K)``: the classes that may be used, besides those of the seeds; also on the CPU, where
                `label_set_on_host` is True, so that a device is waited for once less. Or, for each pixel,
                ``(B, K, H, W)``, at least one, among which the scores are turned into probabilities then. None = all.
            valid: bool ``(B, H, W)``, False on padding. None = no padding.
            initial: integer ``(B, H, W)``, a labeling to start from, 255 where there is none; it goes before whatever
                start the solver is set to.

        Returns:
            The labelings.

        Raises:
            ValueError: if the arguments do not fit together.
        """
        problem = check_problem(logits, image, seeds, label_set, valid, initial, self.label_set_on_host)
        if logits.numel() == 0:
            zero = torch.zeros(len(logits), dtype=torch.float64)
            found = SolverResult.from_labels(torch.full_like(problem.seeds, VOID))
            return replace(found, unary=zero, pairwise=zero, lower_bound=zero)
        began = time.perf_counter()
        try:
            result = self._solve(problem.restricted(logits.detach().float()), image.float(), problem)
        except SeedsOutsideError:
            assert label_set is not None
            beside = label_set.to(logits.device)
            return self.solve(logits, image, seeds=seeds, label_set=beside, valid=valid, initial=initial)
        if (forbidden := problem.forbidden(result.labels)) is not None and forbidden.any():
            result = _without(result, forbidden)
        return replace(result, solve_seconds=time.perf_counter() - began - result.transfer_seconds)

    @abstractmethod
    def _solve(self, scores: Tensor, image: Tensor, problem: Problem) -> SolverResult:
        """Solve a batch of at least one image and pixel, whose arguments are checked.

        Args:
            scores: float32 ``(B, K, H, W)``, with -10,000 for labels that a pixel may not have.
            image: RGB in 0..1, float32 ``(B, 3, H, W)``.
            problem: the other arguments of `solve`, on the same device; see `Problem.seeds_unseen`.

        Returns:
            The labelings; `solve` sets their ``solve_seconds``.
        """


def _without(result: SolverResult, forbidden: Tensor) -> SolverResult:
    """The result without the labels of pixels that may not have them, and with a message for their images."""
    counts = forbidden.flatten(1).sum(1).cpu()
    text = "`label_set` forbids labels that pairwise terms forced on pixels: {} without one now; lower their weight"
    messages = zip(result.message, counts.tolist(), strict=True)
    return replace(
        result,
        labels=result.labels.masked_fill(forbidden, VOID),
        converged=result.converged & (counts == 0),
        message=tuple(message or (text.format(count) if count else "") for message, count in messages),
    )


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
        message: what went wrong with each image; empty for the others.
        transfer_seconds: wall time of moving data between devices.
        solve_seconds: wall time of the rest of the solve.
    """

    probabilities: Tensor
    duals: Tensor
    residual: Tensor
    violation: Tensor
    evaluations: Tensor
    converged: Tensor
    message: tuple[str, ...]
    transfer_seconds: float = 0.0
    solve_seconds: float = 0.0

    @property
    def latent(self) -> Tensor:
        """The probabilities, which the network follows."""
        return self.probabilities

    @property
    def labels(self) -> Tensor:
        """The most probable class of each pixel, uint8 ``(B, H, W)``, 255 on padding."""
        padding = self.probabilities.sum(1) == 0
        return torch.where(padding, VOID, self.probabilities.argmax(1)).to(torch.uint8)


class DistributionSolver(ABC):
    """Base class of solvers that find a latent label distribution P near the network's output Q.

    A subclass writes `_solve`, keeps its constructor arguments, and says what it cannot solve, all as for `Solver`.
    """

    @final
    @torch.no_grad()
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
        check_constraints(logits, constraints, valid)
        if logits.numel() == 0:
            zero, residual = torch.zeros_like(constraints.bounds), logits.new_zeros(len(logits))
            count, none = torch.zeros(len(logits), dtype=torch.int64), ("",) * len(logits)
            return DistributionResult(torch.zeros_like(logits), zero, residual, zero, count, count == 0, none)
        began = time.perf_counter()
        result = self._solve(logits.detach(), constraints, valid)
        return replace(result, solve_seconds=time.perf_counter() - began - result.transfer_seconds)

    @abstractmethod
    def _solve(self, scores: Tensor, constraints: LinearConstraints, valid: Tensor | None) -> DistributionResult:
        """Solve a batch of at least one image and pixel, whose arguments are checked.

        Args:
            scores: the logits of `solve`.
            constraints: as for `solve`.
            valid: as for `solve`.

        Returns:
            The distributions; `solve` sets their ``solve_seconds``.
        """


class Refinement(ABC):
    """Base class of refinements: they make predictions follow the image, after training and outside of it.

    A module uses the one that stands in its attribute `refinement` in every evaluation and prediction; `weakseg
    validate`, `test` and `predict` set it by ``--refine``. A subclass writes `_refine` and keeps its constructor
    arguments as a `Solver` does. What it needs and cannot find it says in the constructor, before anything runs.
    """

    @final
    @torch.no_grad()
    def refine(self, logits: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Refine the predictions for a batch; each image stands for itself.

        Args:
            logits: scores at the image's size, float ``(B, K, H, W)``, any device and precision.
            image: RGB in 0..1, float ``(B, 3, H, W)``.
            valid: bool ``(B, H, W)``, False on padding, which neither changes nor has influence. None = no padding.

        Returns:
            Probabilities of the classes, float32 ``(B, K, H, W)``, on the logits' device; softmax on padding.

        Raises:
            ValueError: if the arguments do not fit together, or hold nan or infinite values.
        """
        valid = check_refined(logits, image, valid)
        scores = logits.detach().float()
        return self._refine(scores, image.float(), valid) if logits.numel() else scores.softmax(1)

    @abstractmethod
    def _refine(self, scores: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """Refine a batch of at least one image and pixel, whose arguments are checked.

        Args:
            scores: float32 ``(B, K, H, W)``.
            image: RGB in 0..1, float32 ``(B, 3, H, W)``.
            valid: bool ``(B, H, W)`` on the device of the scores.

        Returns:
            Probabilities as `refine` returns them.
        """
