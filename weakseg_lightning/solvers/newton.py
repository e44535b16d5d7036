"""Newton's method for concave functions of few variables in a box, for a batch at once."""

import torch
from torch import Tensor

from weakseg_lightning.solvers.dual import Dual

QP_STEPS = 30
OVERSHOOT = 0.9


def newton(dual: Dual, tolerance: float, max_evaluations: int):
    batch, rows = dual.target.shape
    point = torch.zeros_like(dual.target)
    residual = torch.full_like(dual.pixels, torch.inf)
    counts = torch.zeros(batch, dtype=torch.int64, device=point.device)
    images = torch.arange(batch, device=point.device)
    base, step, slope, length = point.clone(), torch.zeros_like(point), torch.zeros_like(residual), torch.ones_like(residual)
    trial = base
    for count in range(1, max_evaluations + 1):
        gradient, hessian = dual.gradient_and_hessian(trial)
        left = dual.residual(trial, gradient)
        point[images], residual[images], counts[images] = trial, left, count
        going = left > tolerance
        alive = int(going.sum())
        if alive == 0:
            break
        if alive < len(images):
            keep = going.nonzero()[:, 0]
            dual, images = dual[keep], images[keep]
            gradient, hessian, base, step, slope, length, trial = (
                t[keep] for t in (gradient, hessian, base, step, slope, length, trial)
            )
        ahead = (gradient * step).sum(1)
        good = ahead >= -OVERSHOOT * slope
        fresh, rise = direction(dual, trial, gradient, hessian)
        shorter = length * (slope / (slope - ahead)).clamp(0.1, 0.6)
        length = torch.where(good, 1.0, shorter)
        base = torch.where(good[:, None], trial, base)
        step = torch.where(good[:, None], fresh, step)
        slope = torch.where(good, rise, slope)
        trial = base + length[:, None] * step
    return point, residual, counts


REACH = 2.0
SLACK = 4.0


def direction(dual: Dual, point, gradient, hessian):
    straight, odds = dual.straightened(gradient)
    radius = REACH * odds + SLACK
    lower, upper = torch.maximum(-point, -radius), torch.minimum(dual.upper - point, radius)
    step = box_quadratic(straight, hessian, lower, upper)
    rise = (step * gradient).sum(1)
    bad = ~(rise > 0)
    if bad.any():
        plain = box_quadratic(gradient, hessian, lower, upper)
        step = torch.where(bad[:, None], plain, step)
        rise = (step * gradient).sum(1)
    return step, rise


def box_quadratic(gradient, hessian, lower, upper):
    """Maximise g d - d H d / 2 in the box."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    ridge = 1e-9 * diagonal.amax(1, keepdim=True) + 1e-30
    matrix = hessian + torch.diag_embed(ridge.expand_as(gradient))
    eye = torch.eye(hessian.shape[1], dtype=hessian.dtype, device=hessian.device)
    scale = 1 / (diagonal + ridge)
    state = gradient * scale
    for count in range(QP_STEPS):
        bounded = state.clamp(lower, upper)
        free = state == bounded
        step = torch.linalg.solve_ex(
            torch.where(free[:, :, None], matrix, eye), torch.where(free, gradient, bounded)[:, :, None]
        )[0]
        pull = torch.baddbmm(gradient[:, :, None], matrix, step, alpha=-1)
        step = step[:, :, 0]
        new = torch.addcmul(step, torch.where(free, 0, pull[:, :, 0]), scale)
        changed = (new.clamp(lower, upper) != new) == free
        changed |= ~free & (new.clamp(lower, upper) != bounded)
        STATS.append(count)
        if not changed.any():
            break
        if count >= 4:
            changed &= changed.flip(1).cumsum(1).flip(1) == 1
            new = torch.where(changed, new, state)
        state = new
    return step.clamp(lower, upper)


STATS = []
