"""Projected Newton's method on the dual of constrained label distributions, for a batch at once."""

import torch
from torch import Tensor

from weakseg_lightning.solvers.dual import Dual

OVERSHOOT = 0.9  # a step is too long where the slope at its end is this far below zero, as a share of the first slope
REACH, MARGIN = 3.0, 8.0  # a row's dual moves at most so many times what it would take by itself, plus so much
BLOCK_STEPS = 3  # all rows of the quadratic programme change sides at once in its first steps, then one at a time
QUADRATIC_STEPS = 30
RIDGE = 1e-9


def newton(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Tensor, Tensor]:
    """Maximise the dual of each image: Newton's directions from box-constrained quadratic programmes, with a safeguard.

    The dual is concave: where its slope along a step is not yet far below zero at the end, the step is right;
    otherwise it is shortened, by the secant of the slope. No value of the dual is used, which single precision
    could not tell apart near the optimum. Images that are done are left alone.

    Args:
        dual: the problems.
        tolerance: KKT residual to reach.
        max_evaluations: at most so many evaluations of gradient and Hessian.

    Returns:
        The dual variables ``(B, C)``, and the evaluations of each image, int64 ``(B,)``.
    """
    best = torch.zeros_like(dual.target)
    counts = torch.zeros_like(dual.pixels, dtype=torch.int64)
    images = torch.arange(len(best), device=best.device)
    base, step = best, torch.zeros_like(best)
    slope, length = torch.zeros_like(dual.pixels), torch.ones_like(dual.pixels)
    for count in range(1, max_evaluations + 1):
        point = base + length[:, None] * step
        gradient, hessian = dual.gradient_and_hessian(point)
        best[images], counts[images] = point, count
        going = dual.residual(point, gradient) > tolerance
        rest = int(going.sum())
        if rest == 0:
            break
        if rest < len(images):
            images, dual, keep = images[going], dual.select(going), going
            state = (point, gradient, hessian, base, step, slope, length)
            point, gradient, hessian, base, step, slope, length = (tensor[keep] for tensor in state)
        ahead = (gradient * step).sum(1)
        good = ahead >= -OVERSHOOT * slope
        length = torch.where(good, 1, length * (slope / (slope - ahead)).clamp(0.1, 0.6))
        fresh, rise = _direction(dual, point, gradient, hessian)
        base, step = torch.where(good[:, None], point, base), torch.where(good[:, None], fresh, step)
        slope = torch.where(good, rise, slope)
    return best, counts


def _direction(dual: Dual, point: Tensor, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Return an ascent direction that stays in the box, and the slope along it."""
    straight, alone = dual.straighten(gradient)
    radius = REACH * alone + MARGIN
    lower, upper = torch.maximum(-point, -radius), torch.minimum(dual.upper - point, radius)
    step = _box_quadratic(straight, hessian, lower, upper)
    rise = (step * gradient).sum(1)
    if bool((rise <= 0).any()):
        for other in (_box_quadratic(gradient, hessian, lower, upper), gradient.clamp(lower, upper)):
            step = torch.where((rise > 0)[:, None], step, other)
            rise = (step * gradient).sum(1)
    return step, rise


def _box_quadratic(gradient: Tensor, hessian: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Maximise ``gradient d - d hessian d / 2`` in the box: block principal pivoting, ``(B, C)``.

    Rows are free, or fixed at the bound that ``state`` lies beyond.
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    ridge = RIDGE * diagonal.amax(1, keepdim=True) + 1e-30
    matrix = hessian + torch.diag_embed(ridge.expand_as(gradient))
    unit = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
    scale = 1 / (diagonal + ridge)
    stuck = ((lower >= 0) & (gradient <= 0)) | ((upper <= 0) & (gradient >= 0))
    state = torch.where(stuck, gradient * scale, 0)
    for count in range(QUADRATIC_STEPS):
        bounded = state.clamp(lower, upper)
        free = state == bounded
        known = torch.where(free, gradient, bounded)[:, :, None]
        step = torch.linalg.solve_ex(torch.where(free[:, :, None], matrix, unit), known)[0]
        pull = torch.baddbmm(gradient[:, :, None], matrix, step, alpha=-1)[:, :, 0]
        step = step[:, :, 0]
        ahead = torch.addcmul(step, torch.where(free, 0, pull), scale)
        within = ahead.clamp(lower, upper)
        changed = torch.where(free, ahead != within, within != bounded)
        if not bool(changed.any()):
            break
        if count >= BLOCK_STEPS:
            changed &= changed.flip(1).cumsum(1).flip(1) == 1
            ahead = torch.where(changed, ahead, state)
        state = ahead
    return step.clamp(lower, upper)
