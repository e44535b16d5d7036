"""Soft labelings of the pixel grid: latent distributions that agree with the network and with their neighbors."""

import time
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from weakseg_lightning._native import _core
from weakseg_lightning.checks import at_least, finite_above, finite_at_least, one_of
from weakseg_lightning.devices import to_device, to_host
from weakseg_lightning.energies.potts import GridPotts
from weakseg_lightning.errors import UserError
from weakseg_lightning.losses.potts import Relaxation
from weakseg_lightning.losses.soft_labels import Link
from weakseg_lightning.solvers.base import DistributionResult
from weakseg_lightning.solvers.potts.host import failure_messages, potts_batch
from weakseg_lightning.solvers.potts.soft_descent import Found, descend
from weakseg_lightning.solvers.potts.soft_problem import SoftProblem
from weakseg_lightning.solvers.problem import Problem, check_problem
from weakseg_lightning.solvers.threads import check_num_threads, default_num_threads

# In the order of the compiled core.
_LINKS: tuple[Link, ...] = ("collision", "cross_entropy", "reverse")
_RELAXATIONS: tuple[Relaxation, ...] = (
    "quadratic",
    "normalized",
    "log_quadratic",
    "bilinear",
    "collision",
    "collision_divergence",
)


@dataclass(frozen=True, kw_only=True)
class SoftPottsResult(DistributionResult):
    """Soft labelings of a batch. `residual` is the gap relative to the energy, `evaluations` counts sweeps.

    Args:
        link: unary_weight times the sum of the links to the network's output, float64 ``(B,)`` on the CPU; nan for
            images that failed, as all below.
        pairwise: relaxed pairwise energy, float64 ``(B,)`` on the CPU.
        gap: Frank-Wolfe gap, float64 ``(B,)`` on the CPU: where the problem is convex no soft labeling has an energy
            that is lower by more; elsewhere it measures how nearly stationary the labeling is.
    """

    link: Tensor
    pairwise: Tensor
    gap: Tensor

    @staticmethod
    def from_probabilities(probabilities: Tensor) -> "SoftPottsResult":
        """Soft labelings of which nothing but the distributions is known: their energies are nan.

        Args:
            probabilities: float ``(B, K, H, W)``.
        """
        return _result(probabilities, torch.full((len(probabilities), 3), torch.nan), _solved(len(probabilities)))

    @property
    def energy(self) -> Tensor:
        """Total energy, float64 ``(B,)``."""
        return self.link + self.pairwise


@dataclass(frozen=True)
class SoftPotts:
    """Soft self-labels on the pixel grid, to a certified gap.

    Minimizes, for each image, over distributions y_i of the allowed labels, one-hot at seeds,

        ``E(y) = unary_weight sum_i H(y_i, sigma_i) + sum_{ij in N} w_ij P(y_i, y_j)``,

    sigma the softmax of the logits over the allowed labels, N the 4- or 8-grid without padding, ``w_ij`` from
    `GridPotts`; the first sum runs over the pixels without a seed. H is the ``link``, P the ``relaxation`` of the Potts
    term.

    What is guaranteed:
        - ``relaxation: quadratic``: E is convex with each of the links. ``converged=True``: its value is at most
          ``tolerance`` above the minimum, relative to the value, by the gap of Frank and Wolfe or, for the collision
          link, one that keeps the link exact; it is computed from the result itself.
        - The other relaxations are not convex. They start from the solution of the quadratic one and descend until five
          sweeps lower E by no more than ``tolerance`` of it, which is what ``converged=True`` then means; the gap
          says how nearly stationary the result is, not how near to the minimum.
        - From one check to the next, E does not rise by more than rounding (1e-6 of it).
        - ``converged=False`` without a message: ``max_sweeps`` was reached, or no step lowered the energy any more.
          With a message: the image was not solved, its probabilities are 0.
        - An image's result depends neither on ``num_threads`` nor, but for rounding by tensor operations, on the rest
          of the batch.

    How it works: exact minimization over one pixel at a time (in closed form once it is known which of its classes are
    positive; by Newton's method for the reverse link), for all pixels of one of four interleaved grids at once, with
    steps beyond the minimum while these pay, and none beyond it for the last two sweeps. Other relaxations go on with
    one pixel at a time, the relaxation to first order, in steps that are shortened until the energy falls. CPU tensors
    are solved for in compiled code, others by tensor operations on their device, outside of ``torch.inference_mode``;
    of the labelings nothing travels between devices, of each check two flags.

    Args:
        potts: the pairwise weights. The scale counts: weights are summed, as the unary terms are.
        relaxation: P, any of :func:`weakseg_lightning.losses.potts_loss` that has a gradient everywhere (not
            ``absolute``); ``quadratic`` is certified.
        link: H: ``collision`` ``-ln sum_k sigma^k y^k``, ``cross_entropy`` ``-sum_k y^k ln sigma^k`` or ``reverse``
            ``-sum_k sigma^k ln y^k``; the module's loss takes the same.
        unary_weight: factor of the links, > 0.
        tolerance: relative gap to reach, >= 0; of other relaxations, the relative fall within five sweeps.
        max_sweeps: at most so many passes over the pixels, >= 0, and as many again for a relaxation other than
            quadratic; with 0 the labeling is sigma.
        num_threads: threads for the images of a batch, >= 1; None = as for `AlphaExpansion`.

    Raises:
        ValueError: if an argument is out of its range.

    References:
        Zhang and Boykov: Soft Self-labeling and Potts Relaxations for Weakly-supervised Segmentation, CVPR 2025
        (the formulas are from a note on the paper, whose text was not at hand; convexity and gap are derived here).

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.1, 2.0]], [[0.0, 0.2, 0.0]]]])
        >>> SoftPotts(GridPotts(weight=10.0)).solve(logits, torch.zeros(1, 3, 1, 3)).labels
        tensor([[[0, 0, 0]]], dtype=torch.uint8)
    """

    potts: GridPotts = GridPotts(weight=20.0, connectivity=4)  # noqa: RUF009 (frozen)
    relaxation: Relaxation = "quadratic"
    link: Link = "collision"
    unary_weight: float = 1.0
    tolerance: float = 1e-3
    max_sweeps: int = 200
    num_threads: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        one_of("relaxation", self.relaxation, _RELAXATIONS)
        one_of("link", self.link, get_args(Link))
        finite_above("unary_weight", self.unary_weight, 0)
        finite_at_least("tolerance", self.tolerance, 0)
        at_least("max_sweeps", self.max_sweeps, 0)
        check_num_threads(self.num_threads)

    @torch.no_grad()
    def solve(
        self,
        logits: Tensor,
        image: Tensor,
        *,
        seeds: Tensor | None = None,
        label_set: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> SoftPottsResult:
        """Find the soft labeling of each image of a batch.

        Args:
            logits: scores, float ``(B, K, H, W)``, any device and precision.
            image: RGB in 0..1, float ``(B, 3, H, W)`` on the same device.
            seeds: hard constraints, int64 ``(B, H, W)``: a class, or 255 where the pixel is free. None = no seeds.
            label_set: bool ``(B, K)``: the classes that may be used, besides those of the seeds. None = all.
            valid: bool ``(B, H, W)``, False on padding. None = no padding.

        Returns:
            The soft labelings.

        Raises:
            ValueError: if the arguments do not fit together.
        """
        problem = check_problem(logits, image, seeds, label_set, valid)
        if problem.allowed_at is not None:
            raise UserError("`label_set` must be (B, K) for soft labels, got one per pixel: take AlphaExpansion")
        began = time.perf_counter()
        scores = logits.detach().float()
        edges = self.potts.edge_weights(image.float(), problem.valid)
        if logits.numel() == 0:
            nothing = torch.zeros(len(scores), 3, dtype=torch.float64)
            found = _result(torch.zeros_like(scores), nothing, _solved(len(scores)))
        elif scores.device.type == "cpu":
            found = self._compiled(scores, edges, problem)
        else:
            found = self._descended(SoftProblem.of(scores, edges, problem, self.link, self.unary_weight))
        return replace(found, solve_seconds=time.perf_counter() - began)

    def _compiled(self, scores: Tensor, edges: Tensor, problem: Problem) -> SoftPottsResult:
        probabilities = torch.zeros_like(scores, memory_format=torch.contiguous_format)
        batch, _ = potts_batch(scores, torch.zeros_like(scores[:, 0]), -1.0, edges, problem, problem.seeds)
        energies, status = _core.soft_potts(
            batch,
            _LINKS.index(self.link),
            _RELAXATIONS.index(self.relaxation),
            self.unary_weight,
            self.tolerance,
            self.max_sweeps,
            probabilities.numpy(),
            self.num_threads or default_num_threads(),
        )
        return _result(probabilities, torch.from_numpy(energies), torch.from_numpy(status))

    def _descended(self, soft: SoftProblem) -> SoftPottsResult:
        found = descend(soft, "quadratic", self.tolerance, self.max_sweeps)
        if self.relaxation != "quadratic":
            found = descend(soft, self.relaxation, self.tolerance, self.max_sweeps, found)
        return _result(soft.image_of(found.distributions), *_energies_and_status(found, soft.failures))


def _energies_and_status(found: Found, failures: Tensor) -> tuple[Tensor, Tensor]:
    """As the compiled core returns them: link, pairwise, gap; sweeps, whether it converged, code of the failure."""
    energies, failed, sweeps, converged = to_host(found.energies, failures, found.sweeps, found.converged)
    energies = torch.where(failed[:, None] > 0, torch.nan, energies)
    return energies, torch.stack([sweeps, converged.long() * (failed == 0), failed], 1)


def _result(probabilities: Tensor, energies: Tensor, status: Tensor) -> SoftPottsResult:
    link, pairwise, gap = energies.double().unbind(1)
    sweeps, converged, failure = status.unbind(1)
    size = (link + pairwise).abs()
    nothing = probabilities.new_zeros(len(link), 0)
    return SoftPottsResult(
        probabilities=probabilities,
        duals=nothing,
        residual=to_device((gap / torch.where(size > 0, size, 1.0)).to(probabilities.dtype), probabilities.device),
        violation=nothing,
        evaluations=sweeps.long(),
        converged=converged.bool(),
        message=failure_messages(failure),
        link=link,
        pairwise=pairwise,
        gap=gap,
    )


def _solved(images: int) -> Tensor:
    """The status of images that took no sweep."""
    return torch.tensor([[0, 1, 0]]).expand(images, 3)
