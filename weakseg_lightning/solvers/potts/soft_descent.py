"""Block descent for soft labelings by tensor operations: any device, any link, any relaxation."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from weakseg_lightning.devices import to_host, works_aside
from weakseg_lightning.losses.potts import DISTANCES, Relaxation
from weakseg_lightning.losses.soft_labels import Link
from weakseg_lightning.solvers.potts.soft_problem import PHASES, Planes, SoftProblem, inside

_SWEEPS_BETWEEN_CHECKS = 5
_SWEEPS_OF_AN_END = 2
_NEAR = 50  # times the tolerance: an end is worth trying
_ROUNDING = 1e-6
_PASSES = 20  # two to five are the rule; a class at 0 may come and go for ever
# On a device that works beside the CPU, which would have to wait for it to see whether a pass more changes anything:
_PASSES_ASIDE = 5
_NEWTON_STEPS_ASIDE = 8  # five to seven are the rule
_TRIES = 6  # of shorter and shorter steps
_LONGEST_STEP = 1000  # also where a logarithm is steep: of much more, rounding leaves nothing
_TINY = 1e-30


@dataclass(frozen=True)
class Found:
    """Soft labelings on the way, and what is known of them.

    Args:
        distributions: planes ``(B, K, h + 2, w + 2)``.
        energies: float64 ``(B, 3)``: link, pairwise, gap.
        sweeps: int64 ``(B,)``.
        converged: bool ``(B,)``.
    """

    distributions: Planes
    energies: Tensor
    sweeps: Tensor
    converged: Tensor

    @property
    def total(self) -> Tensor:
        """Energies, float64 ``(B,)``."""
        return self.energies[:, 0] + self.energies[:, 1]


def descend(
    problem: SoftProblem, relaxation: Relaxation, tolerance: float, max_sweeps: int, start: Found | None = None
) -> Found:
    """Minimize over one phase after the other until the gap is small.

    Args:
        problem: the problems of a batch.
        relaxation: P.
        tolerance: relative gap to reach.
        max_sweeps: at most so many passes.
        start: where to start from; its sweeps count on. None: from the outputs.

    Returns:
        The soft labelings; from one check to the next their energies rise by no more than rounding.
    """
    planes = [plane.clone() for plane in (problem.seeded if start is None else start.distributions)]
    energies = evaluate(problem, relaxation, planes)
    sweeps = torch.zeros_like(problem.failures) if start is None else start.sweeps
    now, done = Found(planes, energies, sweeps, _is_done(energies, tolerance)), 0
    convex = relaxation == "quadratic"
    beyond = _relaxation_of(problem) if convex else torch.ones_like(energies[:, 0]).float()
    stuck, ended = torch.zeros_like(now.converged), False

    def sweep(count: int, moving: Tensor, beyond: Tensor, tight: bool) -> Found:
        planes = [plane.clone() for plane in now.distributions]
        for _ in range(count):
            for phase in range(len(PHASES)):
                _move(problem, relaxation, planes, phase, moving, beyond[:, None, None, None])
        energies = evaluate(problem, relaxation, planes, tight)
        return Found(planes, energies, now.sweeps + count, _is_done(energies, tolerance))

    while done < max_sweeps and not ended:
        count = min(_SWEEPS_BETWEEN_CHECKS, max_sweeps - done)
        moving = ~(now.converged | stuck)
        found = sweep(count, moving, beyond, tight=False)
        done += count
        rose = ~(found.total <= now.total + _ROUNDING * now.total.abs())
        # Steps beyond the minimum of each pixel mostly take half the sweeps, but may rise: they are taken back.
        stuck |= rose & (beyond == 1)
        beyond = torch.where(rose, 1.0, beyond)
        if not convex:  # the gap bounds nothing: what ends is what hardly falls any more
            falls = now.total - found.total > tolerance * found.total.abs()
            found = replace(found, converged=found.converged | ~falls)
        now = _kept(now, found, moving & ~rose)
        now = replace(now, sweeps=torch.where(moving & rose, now.sweeps + count, now.sweeps))
        near = moving & ~rose & ~now.converged & _is_done(now.energies, _NEAR * tolerance)
        some_near, ended = map(bool, to_host(near.any(), (now.converged | stuck).all()))
        # They also leave pixels on both sides of it, which the gap counts twelvefold.
        if convex and some_near:
            count = min(_SWEEPS_OF_AN_END, max_sweeps - done)
            now = _kept(now, sweep(count, near, torch.ones_like(beyond), tight=True), near)
            done += count
            ended = done >= max_sweeps or bool((now.converged | stuck).all())
    return now


def _relaxation_of(problem: SoftProblem) -> Tensor:
    """How far beyond the minimum of a cell steps go at first, 1 being exactly there, ``(B,)``.

    The best factor of successive over-relaxation for a grid whose edges weigh so much against the link, whose curvature
    is about 1.3 times the unary weight.
    """
    weight = torch.stack([plane.flatten(1).sum(1) for plane in problem.edges]).sum(0)
    mean = 2 * weight / (problem.size[0] * problem.size[1])
    return (2 / (1 + (1.3 * problem.unary_weight / mean.clamp(min=_TINY)).sqrt())).clamp(1.0, 1.95)


def _kept(before: Found, after: Found, which: Tensor) -> Found:
    """The later labelings of some images, the earlier ones of the others."""
    maps = which[:, None, None, None]
    return Found(
        [torch.where(maps, b, a) for a, b in zip(before.distributions, after.distributions, strict=True)],
        torch.where(which[:, None], after.energies, before.energies),
        torch.where(which, after.sweeps, before.sweeps),
        torch.where(which, after.converged, before.converged),
    )


def _is_done(energies: Tensor, tolerance: float) -> Tensor:
    return energies[:, 2] <= tolerance * (energies[:, 0] + energies[:, 1]).abs()


# ---- one phase -------------------------------------------------------------------------------------------------


def _move(
    problem: SoftProblem, relaxation: Relaxation, planes: Planes, phase: int, moving: Tensor, beyond: Tensor
) -> None:
    """Move the free cells of a phase, in place, in the images that are still moving."""
    y, sigma = inside(planes[phase]), inside(problem.outputs[phase])
    free = inside(problem.free[phase]) & moving[:, None, None, None]
    around = problem.neighbors(phase, planes)
    step = _quadratic_step if relaxation == "quadratic" else _descent_step
    target = step(problem, relaxation, _Cells(y, sigma, problem.allowed & free, around))
    least = _TINY if problem.link == "reverse" else 0.0  # its logarithm is finite
    target = torch.where(problem.allowed, (y + beyond * (target - y)).clamp(min=least), 0.0)
    y.copy_(torch.where(free, target / target.sum(1, keepdim=True).clamp(min=_TINY), y))


@dataclass(frozen=True)
class _Cells:
    """Cells of one phase: distributions y, outputs sigma, the labels that may move ``(B, K, h, w)``, the neighbors."""

    y: Tensor
    sigma: Tensor
    open: Tensor
    around: list[tuple[Tensor, Tensor]]

    def weight(self, least: float) -> Tensor:
        """Sum of the edges' weights ``(B, 1, h, w)``; without neighbors the link decides alone, at any small weight."""
        return torch.stack([weight for weight, _ in self.around]).sum(0).clamp(min=least)


def _quadratic_step(problem: SoftProblem, relaxation: Relaxation, cells: _Cells) -> Tensor:
    """The minimum over each cell, its neighbors fixed."""
    inverse = 1 / cells.weight(1e-6 * problem.unary_weight)
    return nearest(problem.link, cells, sum_of_products(cells.around) * inverse, problem.unary_weight * inverse)


def _descent_step(problem: SoftProblem, relaxation: Relaxation, cells: _Cells) -> Tensor:
    """A lower point of each cell: the link in full, the rest to first order, steps shortened until the energy falls."""

    def local(point: Tensor) -> Tensor:
        return _pairs(relaxation, point, cells.around) + problem.unary_weight * link_of(
            problem.link, point, cells.sigma
        )

    with torch.enable_grad():
        point = cells.y.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(_pairs(relaxation, point, cells.around).sum(), point)
    before, best = local(cells.y)[:, None], cells.y.clone()
    lowest, highest = (torch.where(problem.allowed, slope, limit) for limit in (torch.inf, -torch.inf))
    steep = (highest.amax(1, keepdim=True) - lowest.amin(1, keepdim=True)) / _LONGEST_STEP
    stiffness = torch.maximum(cells.weight(1e-6 * problem.unary_weight), steep)
    falls = torch.zeros_like(stiffness, dtype=torch.bool)
    for _ in range(_TRIES):
        found = nearest(problem.link, cells, cells.y - slope / stiffness, problem.unary_weight / stiffness)
        lower = ~falls & (local(found)[:, None] < before)
        best = torch.where(lower, found, best)
        falls = falls | lower
        stiffness = 4 * stiffness
    return best


def nearest(link: Link, cells: _Cells, center: Tensor, ratio: Tensor) -> Tensor:
    """Minimize ``ratio H(y, sigma) + |y - center|^2 / 2`` over the distributions of each cell.

    The positive classes of the cells' distributions are taken for those of the solution at first.

    Args:
        link: H.
        cells: the cells; without an open label they need no solution.
        center: ``(B, K, h, w)``.
        ratio: ``(B, 1, h, w)``, > 0.
    """
    if link == "reverse":
        return _nearest_reverse(cells, center, ratio)
    active = (cells.y > 0) & cells.open
    value, is_seen = center, not works_aside(center.device)
    for _ in range(_PASSES if is_seen else _PASSES_ASIDE):
        t, theta = _shift(link, active, cells.sigma, center, ratio)
        value = center + t * cells.sigma - theta
        now = (value > 0) & cells.open
        if is_seen and torch.equal(now, active):
            break
        active = now
    value = torch.where(active, value, 0.0)
    return value / value.sum(1, keepdim=True).clamp(min=_TINY)


def _shift(link: Link, active: Tensor, output: Tensor, center: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The solution is ``max(0, center + t output - theta)``; here t and theta for the classes taken to be positive.

    With the cross-entropy t is the ratio; with the collision ``t (sigma . y)`` is, a quadratic equation for t.
    """
    count = active.sum(1, keepdim=True).clamp(min=1)
    s, m = torch.where(active, output, 0.0), torch.where(active, center, 0.0)
    outputs, centers = s.sum(1, keepdim=True), m.sum(1, keepdim=True)
    t = ratio
    if link == "collision":
        slope = (s * center).sum(1, keepdim=True) - outputs * (centers - 1) / count
        bend = ((s * output).sum(1, keepdim=True) - outputs * outputs / count).clamp(min=0)
        root = (slope * slope + 4 * bend * ratio).sqrt()
        # for slope < 0 the other form of the root, in which nothing cancels
        t = torch.where(
            slope > 0, 2 * ratio / (slope + root).clamp(min=_TINY), (root - slope) / (2 * bend).clamp(min=_TINY)
        )
    return t, (centers + t * outputs - 1) / count


def _nearest_reverse(cells: _Cells, center: Tensor, ratio: Tensor) -> Tensor:
    """``y_k = (b + sqrt(b^2 + 4 ratio sigma_k)) / 2``, ``b = center_k - theta``; theta by Newton's method."""
    area = 4 * ratio * cells.sigma
    theta = torch.where(cells.open, center + area / 4 - 1, -1e30).amax(1, keepdim=True)
    y, is_seen = cells.sigma, not works_aside(center.device)
    for _ in range(_PASSES if is_seen else _NEWTON_STEPS_ASIDE):
        b = center - theta
        root = (b * b + area).sqrt()
        # for b < 0 the other form of the root, in which nothing cancels
        y = torch.where(b > 0, (b + root) / 2, area / (2 * (root - b)).clamp(min=_TINY))
        y = torch.where(cells.open, y, 0.0)
        excess = y.sum(1, keepdim=True) - 1
        if is_seen and not bool((excess > 1e-5).any()):
            break
        step = excess / (y / root.clamp(min=_TINY)).sum(1, keepdim=True).clamp(min=_TINY)
        theta = theta + torch.where(excess > 1e-5, step, 0.0)  # a cell that is done does not wait for others
    return y / y.sum(1, keepdim=True).clamp(min=_TINY)


# ---- energy and gap --------------------------------------------------------------------------------------------


def evaluate(problem: SoftProblem, relaxation: Relaxation, planes: Planes, tight: bool = False) -> Tensor:
    """Energies and gap of soft labelings.

    Args:
        problem: the problems of a batch.
        relaxation: P.
        planes: distributions.
        tight: for a gap in which a collision link is taken as it is, only P to first order.

    Returns:
        float64 ``(B, 3)``: link, pairwise, and the gap of Frank and Wolfe,
        ``sum_i max_k <-gradient_i, e_k - y_i>`` over the free pixels and the allowed labels k.
    """
    rows = []
    for phase in range(len(PHASES)):
        y, sigma = inside(planes[phase]), inside(problem.outputs[phase])
        free = inside(problem.free[phase])[:, 0]
        around = problem.neighbors(phase, planes)
        with torch.enable_grad():
            point = y.detach().clone().requires_grad_()
            pairs, link = _pairs(relaxation, point, around), link_of(problem.link, point, sigma)
            (gradient,) = torch.autograd.grad((pairs + problem.unary_weight * link).sum(), point)
        least = torch.where(problem.allowed, gradient, torch.inf).amin(1)
        gap = (gradient * y).sum(1) - least
        if tight and problem.link == "collision":
            gap = (gap - _gain_of_exact_link(problem, y, sigma, gradient)).clamp(min=0)
        gap = torch.where(free, gap, 0.0)
        link = torch.where(free, problem.unary_weight * link.detach(), 0.0)
        rows.append(torch.stack([_sum(link), _sum(pairs.detach()) / 2, _sum(gap)], 1))  # each pair is seen twice
    total = torch.stack(rows).sum(0)
    return torch.cat([total[:, :2], total[:, 2:].clamp(min=0)], 1)


def _gain_of_exact_link(problem: SoftProblem, y: Tensor, sigma: Tensor, gradient: Tensor) -> Tensor:
    """How much better than Frank and Wolfe's the bound of each cell becomes, ``(B, h, w)``.

    For every t, ``-ln a >= 1 + ln t - t a``: a distribution costs ``eta (1 + ln t) + min_k (force_k - eta t sigma_k)``
    at least. At ``t = 1 / (sigma . y)`` this is the bound of Frank and Wolfe; here the best of two other t is taken.
    The bound is concave in t, the logarithm and the least of lines: the first t is the best for the line that is the
    least at first, the second for that line and the one that is the least there.
    """
    eta = problem.unary_weight
    start = 1 / ((sigma * y).sum(1, keepdim=True) + _TINY)
    force = gradient + eta * start * sigma

    def least_at(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = torch.where(problem.allowed, force - eta * t * sigma, torch.inf)
        value, label = values.min(1, keepdim=True)
        return value, sigma.gather(1, label), force.gather(1, label)

    first = second = least_at(start)
    gain = torch.zeros_like(start)
    for _ in range(2):
        alone = 1 / second[1].clamp(min=_TINY)
        crossing = (second[2] - first[2]) / (eta * (second[1] - first[1]))
        upwards = first[1] * start < 1
        both = torch.where(upwards, torch.maximum(alone, crossing), torch.minimum(alone, crossing))
        t = torch.where(second[1] == first[1], alone, both)
        second = least_at(t)
        better = eta * (t / start).log() + second[0] - first[0]
        gain = torch.where(better > gain, better, gain)  # not where it is not a number
    return gain[:, 0]


def _pairs(relaxation: Relaxation, y: Tensor, around: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum over the neighbors of ``w P(y, y_j)``, ``(B, h, w)``."""
    return torch.stack([weight[:, 0] * DISTANCES[relaxation](y, other) for weight, other in around]).sum(0)


def link_of(link: Link, y: Tensor, sigma: Tensor) -> Tensor:
    """H of each cell, ``(B, h, w)``."""
    if link == "collision":
        # Not the greater of both: where y is 0 the gradient, and with it the gap, would say that nothing is wrong.
        return -((sigma * y).sum(1) + _TINY).log()
    if link == "cross_entropy":
        return -(y * sigma).sum(1)
    return -(sigma * y.clamp(min=1e-38).log()).sum(1)


def sum_of_products(around: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Weighted sum of the neighbors' distributions, ``(B, K, h, w)``."""
    total = around[0][0] * around[0][1]
    for weight, other in around[1:]:
        total = total + weight * other
    return total


def _sum(values: Tensor) -> Tensor:
    # MPS has no float64
    return values.flatten(1).sum(1, dtype=torch.float32 if values.device.type == "mps" else torch.float64)
