"""First-order methods on the dual of constrained label distributions, for a batch at once."""

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.solvers.constrained.dual import Array, Dual

FIRST_STEP = 1e5  # the official code's step, in units in which the coefficients are divided by the number of pixels
LONGER, SHORTER = 1.1, 0.5


def projected_gradient(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Array, NDArray[np.int64]]:
    """Maximize by projected gradient ascent: steps grow while the dual rises, and are taken back where it fell.

    Whether it rose is told by the slopes at both ends of a step, which are more precise than its values.

    Args:
        dual: the problems.
        tolerance: KKT residual to reach.
        max_evaluations: at most so many evaluations of the gradient.

    Returns:
        The dual variables ``(B, C)``, and the evaluations of each image, ``(B,)``.
    """
    point = np.zeros_like(dual.target)
    gradient = dual.gradient(dual.distributions(point))
    going = dual.residual(point, gradient) > tolerance
    counts = np.ones_like(dual.pixels, dtype=np.int64)
    size = FIRST_STEP / dual.pixels[:, None]
    for _ in range(max_evaluations - 1):
        if not going.any():
            break
        trial = np.clip(point + size * gradient, 0, dual.upper)
        ahead = dual.gradient(dual.distributions(trial))
        rose = (((gradient + ahead) * (trial - point)).sum(1) >= 0)[:, None]
        taken = rose & going[:, None]
        size = np.where(going[:, None], size * np.where(rose, LONGER, SHORTER), size)
        point, gradient = np.where(taken, trial, point), np.where(taken, ahead, gradient)
        counts += going
        going = dual.residual(point, gradient) > tolerance
    return point, counts


def fista(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Array, NDArray[np.int64]]:
    """Maximize by Nesterov's accelerated gradient in the box, restarted wherever it goes against the gradient.

    It takes and returns what `projected_gradient` does.

    References:
        Beck, Teboulle: A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems, SIAM J. Imaging
        Sciences 2009. O'Donoghue, Candès: Adaptive Restart for Accelerated Gradient Schemes, 2015.
    """
    point = last = np.zeros_like(dual.target)
    counts = np.zeros_like(dual.pixels, dtype=np.int64)
    age = np.ones_like(dual.pixels)
    # The Hessian of log-sum-exp is at most a half; the largest row sum bounds the largest eigenvalue.
    squares = np.abs(dual.rows @ dual.rows.transpose(0, 2, 1)).sum(2)
    size = 2 / np.maximum(squares.max(1, initial=0.0, keepdims=True), 1e-30)
    for _ in range(max_evaluations):
        gradient = dual.gradient(dual.distributions(point))
        going = dual.residual(point, gradient) > tolerance
        counts += going | (counts == 0)
        if not going.any():
            break
        new = np.clip(point + size * gradient, 0, dual.upper)
        older = (1 + np.sqrt(1 + 4 * age**2)) / 2
        onward = ((new - last) * gradient).sum(1) >= 0
        momentum = np.where(onward, (age - 1) / older, 0)[:, None]
        age = np.where(onward, older, 1)
        ahead = np.clip(new + momentum * (new - last), 0, dual.upper)
        last = np.where(going[:, None], new, last)
        point = np.where(going[:, None], ahead, point)
    return point, counts
