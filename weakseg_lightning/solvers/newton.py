"""Newton's method for concave functions of few variables in a box, for a batch at once."""

import torch
from torch import Tensor

from weakseg_lightning.solvers.dual import Dual

QP_STEPS = 8
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


def direction(dual: Dual, point, gradient, hessian):
    lower, upper = -point, dual.upper - point
    step = box_quadratic(dual.straightened(gradient), hessian, lower, upper)
    rise = (step * gradient).sum(1)
    bad = ~(rise > 0)
    if bad.any():
        plain = box_quadratic(gradient, hessian, lower, upper)
        step = torch.where(bad[:, None], plain, step)
        rise = (step * gradient).sum(1)
        bad = ~(rise > 0)
        safe = torch.minimum(torch.maximum(gradient, lower), upper)
        step = torch.where(bad[:, None], safe, step)
        rise = (step * gradient).sum(1)
    return step, rise


def box_quadratic(gradient, hessian, lower, upper):
    """Maximise g d - d H d / 2 in the box."""
    low, high = (lower >= 0) & (gradient <= 0), (upper <= 0) & (gradient >= 0)
    ridge = 1e-9 * hessian.diagonal(dim1=1, dim2=2).amax(1, keepdim=True) + 1e-30
    for _ in range(QP_STEPS):
        free = ~(low | high)
        fixed = torch.where(low, lower, torch.where(high, upper, 0))
        fixed = torch.where(free, 0, fixed)
        matrix = torch.where(free[:, :, None] & free[:, None], hessian, 0) + torch.diag_embed(torch.where(free, ridge, 1))
        known = torch.where(free, gradient - (hessian @ fixed[:, :, None])[:, :, 0], fixed)
        step = torch.linalg.solve_ex(matrix, known[:, :, None])[0][:, :, 0]
        pull = gradient - (hessian @ step[:, :, None])[:, :, 0]
        new_low = torch.where(free, step < lower, low & (pull <= 0))
        new_high = torch.where(free, step > upper, high & (pull >= 0))
        same = ((new_low == low) & (new_high == high)).all()
        low, high = new_low, new_high
        if same:
            break
    return torch.minimum(torch.maximum(step, lower), upper)
