"""Projected Newton's method on the dual of constrained label distributions, for a batch at once."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from weakseg_lightning.solvers.dual import Dual

OVERSHOOT = 0.9  # a step is too long where the slope at its end is this far below zero, as a share of the first slope
REACH, MARGIN = 3.0, 8.0  # a row's dual moves at most so many times what it would take by itself, plus so much
PATIENCE = 5  # from this evaluation on, the latter doubles each time: duals of rows that cannot hold go far
SPREAD = 15.0  # logits that vary more than this over the pixels are scaled down to it at first
HARDEN, LOOSE = 3.0, 5e-3  # and scaled up again by this factor whenever the residual is at most so much
BLOCK_STEPS = 3  # all rows of the quadratic programme change sides at once in its first steps, then one at a time
QUADRATIC_STEPS = 30
RIDGE = 1e-9


@dataclass(frozen=True)
class _Search:
    """Where each image's line search stands: it looks at ``base + length * step``; ``slope`` is that at its base."""

    base: Tensor
    step: Tensor
    slope: Tensor
    length: Tensor

    def select(self, images: Tensor) -> "_Search":
        return _Search(*(tensor.index_select(0, images) for tensor in vars(self).values()))


def newton(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Tensor, Tensor]:
    """Maximise the dual of each image: Newton's directions from box-constrained quadratic programmes, with a safeguard.

    The dual is concave: a step is right whose slope at its end is not far below zero; another is shortened, by the
    secant of the slope. No value of the dual is used, which single precision could not tell apart near the optimum.
    Where the logits vary so much that the dual is nearly piecewise linear, the search goes through softened problems.
    Images that are done are left alone.

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
    zero = torch.zeros_like(dual.pixels)
    search = _Search(best, torch.zeros_like(best), zero, zero)
    for count in range(1, max_evaluations + 1):
        point = search.base + search.length[:, None] * search.step
        gradient, hessian = dual.gradient_and_hessian(point)
        residual = dual.residual(point, gradient)
        best[images], counts[images] = point, count
        going = residual > tolerance if dual.softness is None else (residual > tolerance) | (dual.softness < 1)
        left = int(going.sum())
        if left == 0:
            break
        if left < len(images):
            keep = going.nonzero()[:, 0]
            images, dual, search = images[keep], dual.select(keep), search.select(keep)
            point, gradient, hessian, residual = (
                t.index_select(0, keep) for t in (point, gradient, hessian, residual)
            )
        search = _advance(search, dual, point, gradient, hessian, MARGIN * 2 ** max(0, count - PATIENCE))
        if count == 1:
            dual, search = _soften(dual, search)
        else:
            dual, search = _harden(dual, search, residual)
    return best, counts


def _advance(search: _Search, dual: Dual, point: Tensor, gradient: Tensor, hessian: Tensor, margin: float) -> _Search:
    """Take a new direction where the last step was right, shorten it elsewhere."""
    slope = (gradient * search.step).sum(1)
    good = slope >= -OVERSHOOT * search.slope
    step, rise = _direction(dual, point, gradient, hessian, margin)
    length = search.length * (search.slope / (search.slope - slope)).clamp(0.1, 0.6)
    return _Search(
        base=torch.where(good[:, None], point, search.base),
        step=torch.where(good[:, None], step, search.step),
        slope=torch.where(good, rise, search.slope),
        length=length.masked_fill_(good, 1),
    )


def _soften(dual: Dual, search: _Search) -> tuple[Dual, _Search]:
    """Scale down logits that vary much over the pixels, and begin anew with them."""
    sample = dual.logits[:, :, :: max(1, dual.logits.shape[2] // 64)]
    spread = sample.masked_fill(sample.isinf(), 0).std(2, correction=0).amax(1)
    softness = (SPREAD / spread).clamp(max=1).to(dual.pixels)
    soft = softness < 1
    if not bool(soft.any()):
        return dual, search
    step, slope = torch.where(soft[:, None], 0, search.step), torch.where(soft, torch.inf, search.slope)
    return replace(dual, softness=softness), replace(search, step=step, slope=slope)


def _harden(dual: Dual, search: _Search, residual: Tensor) -> tuple[Dual, _Search]:
    """Scale up again the logits of images that are near their optimum; their next step is right whatever its slope."""
    if dual.softness is None:
        return dual, search
    near = (residual <= LOOSE) & (dual.softness < 1)
    softness = torch.where(near, (dual.softness * HARDEN).clamp(max=1), dual.softness)
    slope = torch.where(near, torch.inf, search.slope)
    return replace(dual, softness=softness), replace(search, slope=slope)


def _direction(dual: Dual, point: Tensor, gradient: Tensor, hessian: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Return an ascent direction that stays in the box, and the slope along it."""
    straight, alone = dual.straighten(gradient)
    radius = REACH * alone + (margin if dual.softness is None else margin / dual.softness[:, None])
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
    numbers = torch.arange(gradient.shape[1], device=gradient.device)
    scale = 1 / (diagonal + ridge)
    stuck = ((lower >= 0) & (gradient <= 0)) | ((upper <= 0) & (gradient >= 0))
    state = gradient * scale * stuck
    for count in range(QUADRATIC_STEPS):
        bounded = state.clamp(lower, upper)
        free = state == bounded
        known = torch.where(free, gradient, bounded)[:, :, None]
        step = torch.linalg.solve_ex(torch.where(free[:, :, None], matrix, unit), known)[0]
        pull = torch.baddbmm(gradient[:, :, None], matrix, step, alpha=-1)[:, :, 0]
        step = step[:, :, 0]
        ahead = torch.addcmul(step, pull.masked_fill_(free, 0), scale)
        within = ahead.clamp(lower, upper)
        changed = torch.where(free, ahead != within, within != bounded)
        if not bool(changed.any()):
            break
        if count >= BLOCK_STEPS:
            last = changed * numbers
            changed &= last == last.amax(1, keepdim=True)
            ahead = torch.where(changed, ahead, state)
        state = ahead
    return torch.minimum(torch.maximum(step, lower), upper)
