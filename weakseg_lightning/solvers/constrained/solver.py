"""Latent label distributions under linear constraints: the nearest to the network's output that satisfies them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import at_least, finite_above, one_of
from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.devices import to_device
from weakseg_lightning.solvers.base import DistributionResult, DistributionSolver
from weakseg_lightning.solvers.constrained.dual import Array, Dual
from weakseg_lightning.solvers.constrained.first_order import fista, projected_gradient
from weakseg_lightning.solvers.constrained.newton import newton
from weakseg_lightning.solvers.constrained.problem import Index, Mask, Reduced, flat_rows, reduce_problem

NOT_FINITE = "the logits are not finite"
Method = Literal["newton", "projected_gradient", "fista"]
Maximize = Callable[[Dual, float, int], tuple[Array, Index]]
METHODS: dict[Method, Maximize] = {"newton": newton, "projected_gradient": projected_gradient, "fista": fista}


@dataclass(frozen=True)
class ConstrainedLatent(DistributionSolver):
    """The label distribution nearest to the network's output under linear constraints, as in constrained CNNs.

    Finds, for each image, with Q the softmax of the logits f,

        ``min_P KL(P || Q) + beta^T xi   subject to   A P >= b - xi,  xi >= 0``,

    by its dual: ``P = softmax(f + A^T lambda)``, one variable ``0 <= lambda_c <= beta_c`` for each row. What is
    suppressed (`LinearConstraints.allowed`) has probability exactly 0 and costs nothing: its columns are dropped.

    What is guaranteed:
        - ``converged=True``: the KKT residual, the largest component of the dual's projected gradient as a fraction of
          the image, is at most ``tolerance``: no hard row is violated by more, and the rows in force hold as exactly.
        - An image whose rows all hold for Q gets Q (without what is suppressed), after one evaluation. An image that
          may hold a single class gets it, whatever its rows say, after none.
        - ``converged=False``: `DistributionResult.message` says why. Logits that are not finite: the image's
          probabilities are 0. Hard rows that cannot be met: it names them, with what they ask for and what was
          reached; P is the best for a slack of ``max_dual``. ``max_evaluations``: P is what was reached.

    How it works: Newton's method on the dual. The step solves a quadratic program in the box with the fractions
    measured in log odds, so that a class of probability 1e-6 is as easily lifted as one of 0.01. All images of a batch
    go together, with the classes and rows that they have; those which are done are left alone. The work is done on
    the device of the logits.

    What it costs: two to eight evaluations, each a softmax and a product of the present classes, in single precision;
    in double precision for logits of it, and where ``hardness`` is above 1.

    Args:
        method: ``newton``; ``projected_gradient``, ascent with steps that grow by 1.1 and shrink by half, as the
            official code does; ``fista``, accelerated gradient. All reach the same optimum; the latter two need
            hundreds or thousands of evaluations.
        hardness: P is ``softmax(hardness (f + A^T lambda))``, > 0: at 1 the problem above; the larger, the closer is P
            to a labeling. The dual variables, and beta, stay in units of f.
        tolerance: KKT residual to reach, > 0, as a fraction of the image.
        max_evaluations: at most so many evaluations, >= 1; None = 200 for Newton, 10000 for the others.
        max_dual: upper bound of the duals of hard rows, > 0, in units of f.

    Raises:
        ValueError: if an argument is out of its range.

    References:
        Pathak, Krähenbühl, Darrell: Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, sections 4.1 and 4.3.

    Example:
        >>> logits = torch.zeros(1, 2, 4, 4)  # of two classes, the background is to have at most 0.25
        >>> constraints = LinearConstraints(
        ...     coefficients=torch.tensor([[[-1.0, 0.0]]]),
        ...     bounds=torch.tensor([[-0.25]]),
        ...     slack=torch.tensor([[torch.inf]]),
        ...     active=torch.tensor([[True]]),
        ...     allowed=torch.tensor([[True, True]]),
        ...     regions=None,
        ...     region_of=None,
        ...     allowed_at=None,
        ...     names=("background <= 0.25",),
        ... )
        >>> ConstrainedLatent().solve(logits, constraints).probabilities[0, :, 0, 0]
        tensor([0.2500, 0.7500])
    """

    method: Method = "newton"
    hardness: float = 1.0
    tolerance: float = 1e-5
    max_evaluations: int | None = None
    max_dual: float = 1000.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        one_of("method", self.method, get_args(Method))
        for name in ("hardness", "tolerance", "max_dual"):
            finite_above(name, getattr(self, name), 0)
        if self.max_evaluations is not None:
            at_least("max_evaluations", self.max_evaluations, 1, "or None to choose")

    @override
    def _solve(self, scores: Tensor, constraints: LinearConstraints, valid: Tensor | None) -> DistributionResult:
        with torch.autocast(scores.device.type, enabled=False):
            problem = reduce_problem(scores, constraints, valid, self.hardness, self.max_dual)
            limit = self.max_evaluations or (200 if self.method == "newton" else 10000)
            duals, counts = METHODS[self.method](problem.dual, self.tolerance, limit)
            return self._result(problem, constraints, scores, duals, counts)

    def _result(
        self, problem: Reduced, constraints: LinearConstraints, logits: Tensor, duals: Array, counts: Index
    ) -> DistributionResult:
        dual = problem.dual
        some = dual.distributions(duals)
        gradient = dual.gradient(some)
        residual = np.where(problem.sound, dual.residual(duals, gradient), np.nan)
        short = np.maximum(gradient, 0) * (dual.pixels[:, None] / problem.areas)
        hard = np.take_along_axis(constraints.on_host.slack.isinf().numpy(), problem.rows, 1)
        missed = hard & (duals >= dual.upper) & (gradient > self.tolerance) & problem.open[:, None]
        counts = np.where(problem.open, counts, 0)
        converged = (residual <= self.tolerance) & ~missed.any(1)
        failed = _Failed(problem, residual, counts, missed, short)
        messages = ["" if converged[b] else _why(failed, constraints.on_host, b) for b in range(len(converged))]
        probabilities = _probabilities(problem, some, logits)
        return DistributionResult(
            probabilities=probabilities,
            duals=_spread(duals / self.hardness, problem.rows, constraints.bounds),
            residual=to_device(torch.from_numpy(residual).to(probabilities.dtype), probabilities.device),
            violation=_spread(short, problem.rows, constraints.bounds),
            evaluations=torch.from_numpy(counts),
            converged=torch.from_numpy(converged),
            message=tuple(messages),
        )


@dataclass(frozen=True)
class _Failed:
    """The grounds of messages: an entry for each image, and for each row of the reduced problem."""

    problem: Reduced
    residual: Array
    counts: Index
    missed: Mask
    short: Array


def _spread(values: Array, rows: Index, like: Tensor) -> Tensor:
    """Put the values of the rows that exist where the constraints have those rows, 0 elsewhere."""
    out = np.zeros(like.shape)
    np.put_along_axis(out, rows, values, 1)
    return to_device(torch.from_numpy(out).to(like.dtype), like.device)


def _probabilities(problem: Reduced, some: Tensor, logits: Tensor) -> Tensor:
    """Put the columns of the classes that are used where the logits have those classes, 0 elsewhere."""
    batch, classes, height, width = logits.shape
    if problem.present is not None:
        some = some * problem.present[:, None]
    if not problem.sound.all():
        some = some * torch.from_numpy(problem.sound).to(some)[:, None, None]
    out = some.new_zeros(batch * classes, height * width)
    out.index_copy_(0, flat_rows(problem.classes, classes, logits.device), some.flatten(0, 1))
    return out.view(logits.shape).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)


def _why(failed: _Failed, constraints: LinearConstraints, image: int) -> str:
    """The reason why an image did not converge."""
    if not failed.problem.sound[image]:
        return NOT_FINITE
    missed = np.flatnonzero(failed.missed[image])
    if len(missed):
        rows = failed.problem.rows[image]
        return "; ".join(_missed(constraints, image, int(rows[c]), float(failed.short[image, c])) for c in missed)
    return (
        f"the KKT residual is too large: {failed.residual[image]:.1e} after {failed.counts[image]} evaluations, raise "
        "`max_evaluations`"
    )


def _missed(constraints: LinearConstraints, image: int, row: int, short: float) -> str:
    """Say what a hard row asks for and what was reached."""
    bound = float(constraints.bounds[image, row])
    upper = bool((constraints.coefficients[image, row] <= 0).all())
    sign, word = (-1, "at most") if upper else (1, "at least")
    return (
        f"'{constraints.name(image, row)}' cannot be met together with the other hard rows: {word} "
        f"{sign * bound:.3g} of the pixels required, {sign * (bound - short):.3g} reached"
    )
