"""Projected Newton's method on the dual of constrained label distributions, for a batch at once."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.solvers.dual import Array, Dual

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

    base: Array
    step: Array
    slope: Array
    length: Array

    def select(self, images: NDArray[np.int64]) -> "_Search":
        return _Search(*(array[images] for array in vars(self).values()))


@np.errstate(all="ignore")  # what is divided by zero is not used
def newton(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Array, NDArray[np.int64]]:
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
        The dual variables ``(B, C)``, and the evaluations of each image, ``(B,)``.
    """
    best, counts = np.zeros_like(dual.target), np.zeros(len(dual.target), dtype=np.int64)
    images, zero = np.arange(len(best)), np.zeros_like(dual.pixels)
    search = _Search(best.copy(), np.zeros_like(best), zero, zero)
    for count in range(1, max_evaluations + 1):
        point = search.base + search.length[:, None] * search.step
        gradient, hessian = dual.gradient_and_hessian(point)
        residual = dual.residual(point, gradient)
        best[images], counts[images] = point, count
        going = residual > tolerance if dual.softness is None else (residual > tolerance) | (dual.softness < 1)
        if not going.any():
            break
        if not going.all():
            keep = np.flatnonzero(going)
            images, dual, search = images[keep], dual.select(keep), search.select(keep)
            point, gradient, hessian, residual = point[keep], gradient[keep], hessian[keep], residual[keep]
        search = _advance(search, dual, point, gradient, hessian, MARGIN * 2 ** max(0, count - PATIENCE))
        if count == 1:
            dual, search = _soften(dual, search)
        else:
            dual, search = _harden(dual, search, residual)
    return best, counts


def _advance(search: _Search, dual: Dual, point: Array, gradient: Array, hessian: Array, margin: float) -> _Search:
    """Take a new direction where the last step was right, shorten it elsewhere."""
    slope = (gradient * search.step).sum(1)
    good = slope >= -OVERSHOOT * search.slope
    step, rise = _direction(dual, point, gradient, hessian, margin)
    shorter = search.length * np.minimum(np.maximum(search.slope / (search.slope - slope), 0.1), 0.6)
    return _Search(
        base=np.where(good[:, None], point, search.base),
        step=np.where(good[:, None], step, search.step),
        slope=np.where(good, rise, search.slope),
        length=np.where(good, 1, shorter),
    )


def _soften(dual: Dual, search: _Search) -> tuple[Dual, _Search]:
    """Scale down logits that vary much over the pixels, and begin anew with them."""
    sample = dual.logits[:, :, :: max(1, dual.logits.shape[2] // 64)].cpu().numpy()
    spread = np.where(np.isinf(sample), 0, sample).std(2).max(1)
    softness = np.minimum(SPREAD / spread, 1)
    soft = softness < 1
    if not soft.any():
        return dual, search
    step, slope = np.where(soft[:, None], 0, search.step), np.where(soft, np.inf, search.slope)
    return replace(dual, softness=softness), replace(search, step=step, slope=slope)


def _harden(dual: Dual, search: _Search, residual: Array) -> tuple[Dual, _Search]:
    """Scale up again the logits of images that are near their optimum; their next step is right whatever its slope."""
    if dual.softness is None:
        return dual, search
    near = (residual <= LOOSE) & (dual.softness < 1)
    softness = np.where(near, np.minimum(dual.softness * HARDEN, 1), dual.softness)
    return replace(dual, softness=softness), replace(search, slope=np.where(near, np.inf, search.slope))


def _direction(dual: Dual, point: Array, gradient: Array, hessian: Array, margin: float) -> tuple[Array, Array]:
    """Return an ascent direction that stays in the box, and the slope along it."""
    straight, alone = dual.straighten(gradient)
    radius = REACH * alone + (margin if dual.softness is None else margin / dual.softness[:, None])
    lower, upper = np.maximum(-point, -radius), np.minimum(dual.upper - point, radius)
    step = _box_quadratic(straight, hessian, lower, upper)
    rise = (step * gradient).sum(1)
    if (rise <= 0).any():
        for other in (_box_quadratic(gradient, hessian, lower, upper), _within(gradient, lower, upper)):
            step = np.where((rise > 0)[:, None], step, other)
            rise = (step * gradient).sum(1)
    return step, rise


def _box_quadratic(gradient: Array, hessian: Array, lower: Array, upper: Array) -> Array:
    """Maximise ``gradient d - d hessian d / 2`` in the box, ``(B, C)``, by block principal pivoting.

    A row is free where ``state`` lies in the box, else fixed at the bound that it lies beyond.

    References:
        Júdice, Pires: A Block Principal Pivoting Algorithm for Large-Scale Strictly Monotone Linear Complementarity
        Problems, Computers & Operations Research 1994.
    """
    numbers, unit = np.arange(gradient.shape[1]), np.eye(gradient.shape[1])
    diagonal = np.einsum("bcc->bc", hessian)
    ridge = RIDGE * diagonal.max(1, keepdims=True) + 1e-30
    matrix = hessian + ridge[:, :, None] * unit
    scale = 1 / (diagonal + ridge)
    stuck = ((lower >= 0) & (gradient <= 0)) | ((upper <= 0) & (gradient >= 0))
    state = gradient * scale * stuck
    for count in range(QUADRATIC_STEPS):
        bounded = _within(state, lower, upper)
        free = state == bounded
        known = np.where(free, gradient, bounded)[:, :, None]
        solved = np.linalg.solve(np.where(free[:, :, None], matrix, unit), known)
        step = solved[:, :, 0]
        pull = gradient - (matrix @ solved)[:, :, 0]
        ahead = np.where(free, step, step + pull * scale)
        within = _within(ahead, lower, upper)
        changed = np.where(free, ahead != within, within != bounded)
        if not changed.any():
            break
        if count >= BLOCK_STEPS:
            last = changed * numbers
            ahead = np.where(changed & (last == last.max(1, keepdims=True)), ahead, state)
        state = ahead
    return _within(step, lower, upper)


def _within(values: Array, lower: Array, upper: Array) -> Array:
    return np.asarray(np.minimum(np.maximum(values, lower), upper))
