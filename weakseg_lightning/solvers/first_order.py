"""First-order methods on the dual of constrained label distributions, for a batch at once."""

import torch
from torch import Tensor

from weakseg_lightning.solvers.dual import Dual

FIRST_STEP = 1e5  # the authors' step, in units in which the coefficients are divided by the number of pixels
LONGER, SHORTER = 1.1, 0.5


def projected_gradient(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Tensor, Tensor]:
    """Maximise by projected gradient ascent: steps grow while the dual rises, and are taken back where it fell.

    Whether it rose is told by the slopes at both ends of a step, which are more precise than its values.

    Args:
        dual: the problems.
        tolerance: KKT residual to reach.
        max_evaluations: at most so many evaluations of the gradient.

    Returns:
        The dual variables ``(B, C)``, and the evaluations of each image, int64 ``(B,)``.
    """
    point = torch.zeros_like(dual.target)
    gradient = dual.gradient(dual.distributions(point))
    going = dual.residual(point, gradient) > tolerance
    counts = torch.ones_like(dual.pixels, dtype=torch.int64)
    size = FIRST_STEP / dual.pixels[:, None]
    for _ in range(max_evaluations - 1):
        if not bool(going.any()):
            break
        trial = torch.minimum((point + size * gradient).clamp(min=0), dual.upper)
        ahead = dual.gradient(dual.distributions(trial))
        rose = (((gradient + ahead) * (trial - point)).sum(1) >= 0)[:, None]
        size = size * torch.where(rose, LONGER, SHORTER)
        taken = rose & going[:, None]
        point, gradient = torch.where(taken, trial, point), torch.where(taken, ahead, gradient)
        counts += going
        going = dual.residual(point, gradient) > tolerance
    return point, counts


def fista(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Tensor, Tensor]:
    """Maximise by Nesterov's accelerated gradient in the box, begun anew wherever it goes against the gradient.

    Args:
        dual: the problems.
        tolerance: KKT residual to reach.
        max_evaluations: at most so many evaluations of the gradient.

    Returns:
        The dual variables ``(B, C)``, and the evaluations of each image, int64 ``(B,)``.

    References:
        Beck, Teboulle: A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems, SIAM J. Imaging
        Sciences 2009. O'Donoghue, Candès: Adaptive Restart for Accelerated Gradient Schemes, 2015.
    """
    point = last = torch.zeros_like(dual.target)
    counts = torch.zeros_like(dual.pixels, dtype=torch.int64)
    age = torch.ones_like(dual.pixels)
    # The Hessian of log-sum-exp is at most a half; the largest row sum bounds the largest eigenvalue.
    size = 1 / (0.5 * (dual.rows @ dual.rows.mT).abs().sum(2).amax(1, keepdim=True)).clamp(min=1e-30)
    for _ in range(max_evaluations):
        gradient = dual.gradient(dual.distributions(point))
        going = dual.residual(point, gradient) > tolerance
        counts += going | (counts == 0)
        if not bool(going.any()):
            break
        new = torch.minimum((point + size * gradient).clamp(min=0), dual.upper)
        older = (1 + (1 + 4 * age**2).sqrt()) / 2
        onward = ((new - last) * gradient).sum(1) >= 0
        momentum = torch.where(onward, (age - 1) / older, 0)[:, None]
        age = torch.where(onward, older, 1)
        ahead = torch.minimum((new + momentum * (new - last)).clamp(min=0), dual.upper)
        last = torch.where(going[:, None], new, last)
        point = torch.where(going[:, None], ahead, point)
    return point, counts
