"""Projected Newton's method on the dual of constrained label distributions, for a batch at once."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning._native import _core
from weakseg_lightning.solvers.constrained.dual import Array, Dual

OVERSHOOT = (
    0.9  # a step is too long where the slope at its end is this far below zero, as a fraction of the first slope
)
MARGIN = 8.0  # a row's dual moves at most thrice what it would take by itself, plus so much
PATIENCE = 5  # from this evaluation on, the latter doubles each time: duals of rows that cannot hold go far
_DOUBLINGS = 60
SPREAD = 15.0  # logits that vary more than this over the pixels are scaled down to it at first
HARDEN, LOOSE = 3.0, 5e-3  # and scaled up again by this factor whenever the residual is at most so much


@dataclass(frozen=True)
class _Search:
    """The state of each image's line search: it looks at ``base + length * step``; ``slope`` is that at its base."""

    base: Array
    step: Array
    slope: Array
    length: Array

    def select(self, images: NDArray[np.int64]) -> "_Search":
        return _Search(*(array[images] for array in vars(self).values()))


@np.errstate(all="ignore")  # what is divided by zero is not used
def newton(dual: Dual, tolerance: float, max_evaluations: int) -> tuple[Array, NDArray[np.int64]]:
    """Maximize the dual of each image: Newton's directions from box-constrained quadratic programs, with a safeguard.

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
        search = _advance(
            search, dual, point, gradient, hessian, MARGIN * 2.0 ** min(max(0, count - PATIENCE), _DOUBLINGS)
        )
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
    """Scale down logits that vary much over the pixels, and begin again with them."""
    sample = dual.logits[:, :, :: max(1, dual.logits.shape[2] // 64)].cpu().numpy()
    sample = np.where(np.isinf(sample), 0, sample)
    if (sample.max(2) - sample.min(2)).max() <= 2 * SPREAD:  # which bounds the deviation, and is quicker
        return dual, search
    spread = sample.std(2).max(1)
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
    if not near.any():
        return dual, search
    softness = np.where(near, np.minimum(dual.softness * HARDEN, 1), dual.softness)
    return replace(dual, softness=softness), replace(search, slope=np.where(near, np.inf, search.slope))


def _direction(dual: Dual, point: Array, gradient: Array, hessian: Array, margin: float) -> tuple[Array, Array]:
    """Return an ascent direction that stays in the box, and the slope along it.

    Where a class has probability 1e-6 and is to have 0.05, Newton's step is 5000 times too long: the fractions of the
    rows are measured in log odds, which a dual changes evenly where pixels are alike.
    """
    step, slope = np.empty_like(point), np.empty_like(dual.pixels)
    softness = np.ones_like(dual.pixels) if dual.softness is None else dual.softness
    _core.newton_direction(
        dual.target, dual.least, dual.span, dual.upper, softness, point, gradient, hessian, margin, step, slope
    )
    return step, slope
