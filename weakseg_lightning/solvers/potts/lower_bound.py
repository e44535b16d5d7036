"""Lower bounds on the grid Potts energy for any number of labels, from its convex relaxation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from weakseg_lightning.checks import at_least, finite_at_least
from weakseg_lightning.devices import works_aside
from weakseg_lightning.energies.grid import OFFSETS, Connectivity, existing_edges, neighbor_offsets, shifted_pair
from weakseg_lightning.solvers.arguments import check_tensor

CHECK_EVERY = 20  # iterations between two evaluations of the bound
STEP_RATIO = 0.5  # of the dual step to w / 2; 0.3 to 2 do nearly as well
RESTART_DECAY = 0.3  # restart when the duality gap is this part of the gap at the last restart
RESTART_FRACTION = 0.36  # or when this part of all iterations has passed since then
CUTTABLE = 16.0  # edges are capped at so many times what any labeling could save
NEWTON_STEPS = 4  # to project to the simplex; inexact ones only slow the iteration down
GPU_VARIABLES = 2**27  # dual variables of the images that a GPU treats together


@torch.no_grad()
def potts_lower_bound(
    unary: Tensor,
    edge_weights: Tensor,
    *,
    connectivity: Connectivity = 8,
    allowed: Tensor | None = None,
    valid: Tensor | None = None,
    energy: Tensor | None = None,
    labels: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    """Bound the grid Potts energy of all labelings of each image from below.

    The energy ``E(x) = sum_p U_p(x_p) + sum_{pq in N} w_pq [x_p != x_q]`` is relaxed to a convex one, over ``u_p`` in
    the simplex of the pixel's allowed labels,

        ``min_u sum_p <U_p, u_p> + sum_{pq in N} w_pq / 2 * ||u_p - u_q||_1``,

    whose dual maximizes, over ``|q_pq(k)| <= w_pq / 2`` for each edge and label,

        ``D(q) = sum_p min_k (U_p(k) + sum_{rp in N} q_rp(k) - sum_{pr in N} q_pr(k))``.

    Whatever q, ``D(q) <= min_x E(x)``. A primal-dual iteration looks for a good q in single precision, with diagonal
    steps, reflection, and restarts whenever the duality gap has fallen enough; D is evaluated in double precision, for
    a q clamped to its bounds, less a margin for the rounding of the sums. So the bound holds after any number of
    iterations. For two labels the relaxation is tight; for more there may be a gap that no iterations close, on
    images a fraction of a percent.

    An image is done when its bound is within ``tolerance`` of ``energy``, or of the optimum of the relaxation, so that
    going on would not help. The cost is linear in pixels, allowed labels and iterations; large weights against the
    unary term need more of them. On a GPU the images run together, on the CPU one after the other.

    Args:
        unary: potentials U, float ``(B, K, H, W)``, any device. Use float64 where the bound must hold to the last
            digit for potentials that were computed in double precision.
        edge_weights: w >= 0 from `GridPotts.edge_weights`, float ``(B, E, H, W)`` on the same device, E = 2 or 4.
            Edges that leave the image or touch padding are ignored.
        connectivity: 4 or 8 neighbors per pixel, E = connectivity / 2.
        allowed: the labels that may be used, bool ``(B, K)``, or for each pixel (seeds!) ``(B, K, H, W)``; at least
            one at each valid pixel. None = all.
        valid: bool ``(B, H, W)``, False on padding, which costs nothing. None = no padding.
        energy: a known energy of each image, ``(B,)``, to stop early. None = iterate to the relaxation's optimum.
        labels: a labeling to start from, the better the faster, integer ``(B, H, W)``; pixels whose label is
            not allowed (255, say) start from the argmin of the unary term. None = argmin everywhere.
        max_iterations: at most so many iterations, >= 0.
        tolerance: relative gap to stop at, >= 0.

    Returns:
        float64 ``(B,)`` on the CPU; nan for images with nan or infinite potentials (where allowed) or weights.

    Raises:
        ValueError: if the arguments do not fit together or are out of their range.

    References:
        Chambolle and Pock, A First-Order Primal-Dual Algorithm for Convex Problems, JMIV 2011.
        Pock and Chambolle, Diagonal Preconditioning for First Order Primal-Dual Algorithms, ICCV 2011.
        Zach et al., Fast Global Labeling for Real-Time Stereo Using Multiple Plane Sweeps, VMV 2008.
        Lellmann et al., Convex Multi-Class Image Labeling by Simplex-Constrained Total Variation, SSVM 2009.
        Applegate et al., Faster First-Order Primal-Dual Methods for LP Using Restarts and Sharpness, Math. Prog. 2023.
        Lu and Yang, Restarted Halpern PDHG for Linear Programming, 2024.

    Example:
        >>> unary = torch.tensor([[[[0.0, 3.0, 0.0]], [[2.0, 0.0, 2.0]]]])
        >>> edges = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]])
        >>> bound = potts_lower_bound(unary, edges, connectivity=4)  # the optimum is 0, 1, 0, which cuts both edges
        >>> bool(1.99 < bound <= 2)
        True
    """
    usable, valid = _check_masks(unary, allowed, valid)
    _check_rest(unary, edge_weights, connectivity, energy, labels)
    at_least("max_iterations", max_iterations, 0)
    finite_at_least("tolerance", tolerance, 0)
    if labels is None:
        labels = unary.new_full((1, 1, 1), -1, dtype=torch.int64).expand(valid.shape)
    if energy is None:
        energy = unary.new_full((len(unary),), torch.nan)
    bounds = torch.zeros(len(unary), dtype=torch.float64)
    if unary.numel() == 0:
        return bounds
    device = torch.device("cpu") if unary.device.type == "mps" else unary.device  # MPS has no double precision
    for chunk in torch.split(torch.arange(len(unary)), _images_at_once(edge_weights, unary.shape[1])):
        parts = (t[chunk.to(t.device)].to(device) for t in (unary, edge_weights, usable, valid, energy, labels))
        problem, start, known, sound = _compress(*parts)
        found = _iterate(problem, start, known, max_iterations, tolerance)
        bounds[chunk] = torch.where(sound, found, torch.nan).cpu()
    return bounds


@dataclass(frozen=True)
class _Problem:
    """Some images, with the potentials of the L labels that any of them uses, and half the weights."""

    unary: Tensor  # float64 (B, L, H, W): inf where not allowed, 0 on padding
    limit: Tensor  # float64 (B, E, 1, H, W): the largest dual variable of each edge, w / 2; 0 where there is no edge
    base: Tensor  # float64 (B,): sum of the minima of the unary term
    margin: Tensor  # float64 (B,): exceeds the rounding error of the bound
    cost: Tensor  # float32: unary less its minimum at each pixel
    radius: Tensor  # float32: limit; STEP_RATIO times this is the dual step
    step: Tensor  # float32 (B, 1, H, W): the primal step, 1 / (STEP_RATIO * sum of a pixel's weights)

    @classmethod
    def of(cls, unary: Tensor, limit: Tensor, energy: Tensor) -> "_Problem":
        least = unary.amin(1, keepdim=True)
        base = least.sum((1, 2, 3))
        # An edge that weighs more than any labeling could save is not cut, whatever it weighs: spare its digits.
        saved = torch.fmin(energy, unary.sum((2, 3)).amin(1)) - base
        limit = torch.minimum(limit, CUTTABLE * saved.clamp(min=0)[:, None, None, None, None])
        size = torch.where(unary.isfinite(), unary.abs(), 0.0).amax(1).sum((1, 2)) + 2 * limit.sum((1, 2, 3, 4))
        radius = limit.float()
        around = _sum_at_ends(radius)
        floor = 1e-6 * around.amax((1, 2, 3), keepdim=True) + 1e-30
        return cls(
            unary=unary,
            limit=limit,
            base=base,
            margin=2.0**-46 * size,
            cost=(unary - least).float(),
            radius=radius,
            step=0.5 / (STEP_RATIO * torch.maximum(around, floor)),
        )

    def dual_value(self, dual: Tensor) -> Tensor:
        """A true bound, float64 ``(B,)``: the dual objective in double precision for ``dual`` (B, E, L, H, W)."""
        value = self.unary.clone()
        for e in range(dual.shape[1]):
            limit, (first, second) = self.limit[:, e], _ends(value, e)
            flow = _firsts(torch.clamp(dual[:, e].double(), -limit, limit), e)
            first -= flow
            second += flow
        return value.amin(1).sum((1, 2)) - self.margin

    def primal_value(self, soft: Tensor) -> Tensor:
        """The relaxed energy of ``soft`` (B, L, H, W), float64 ``(B,)``."""
        value = self.base + torch.where(soft > 0, self.cost * soft, 0.0).sum((1, 2, 3), dtype=torch.float64)
        for e in range(self.radius.shape[1]):
            first, second = _ends(soft, e)
            value += (_firsts(self.radius[:, e], e) * (first - second).abs()).sum((1, 2, 3), dtype=torch.float64)
        return value

    def advance(self, soft: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the primal-dual iteration: descend in ``soft``, then ascend in ``dual`` beyond it."""
        slope = self.cost.clone()
        for e in range(dual.shape[1]):
            (first, second), flow = _ends(slope, e), _firsts(dual[:, e], e)
            first -= flow
            second += flow
        new_soft = _project(torch.addcmul(soft, slope, self.step, value=-1))
        beyond = 2 * new_soft - soft
        new_dual = dual.clone()
        for e in range(dual.shape[1]):
            first, second = _ends(beyond, e)
            _firsts(new_dual[:, e], e).addcmul_(_firsts(self.radius[:, e], e), second - first, value=STEP_RATIO)
        return new_soft, torch.clamp(new_dual, -self.radius, self.radius)


def _iterate(problem: _Problem, soft: Tensor, energy: Tensor, max_iterations: int, tolerance: float) -> Tensor:
    """Restarted Halpern iteration with reflection; return the best bounds, float64 ``(B,)``.

    Each image restarts when its own duality gap says so. One that is done goes along until all are.
    """
    dual = soft.new_zeros((*problem.radius.shape[:2], *soft.shape[1:]))
    best = problem.dual_value(dual)
    points = [soft, dual]
    anchors = [soft.clone(), dual.clone()]
    since = torch.zeros_like(best)  # iterations since the restart
    last_gap = torch.full_like(best, torch.inf)
    for iteration in range(1, max_iterations + 1):
        ahead = problem.advance(*points)
        since += 1
        if iteration % CHECK_EVERY == 0 or iteration == max_iterations:
            relaxed, value = problem.primal_value(ahead[0]), problem.dual_value(ahead[1])
            best = torch.fmax(best, value)
            if _done(best, relaxed, energy, tolerance).all():
                break
            restart = (relaxed - value <= RESTART_DECAY * last_gap) | (since >= RESTART_FRACTION * iteration)
            last_gap = torch.where(restart, relaxed - value, last_gap)
            since = torch.where(restart, 0.0, since)
            for point, anchor, new in zip(points, anchors, ahead, strict=True):
                point[restart] = anchor[restart] = new[restart]
        weight = (since / (since + 1)).float()
        for i, (anchor, new) in enumerate(zip(anchors, ahead, strict=True)):
            reflected = torch.sub(2 * new, points[i])
            points[i] = torch.lerp(anchor, reflected, weight.reshape(-1, *[1] * (new.ndim - 1)))
    return best


def _done(best: Tensor, relaxed: Tensor, energy: Tensor, tolerance: float) -> Tensor:
    """Tell whether the bound is close to the energy, if that is known, or to the optimum of the relaxation."""
    least = torch.fmin(relaxed, energy)
    return least - best <= tolerance * least.abs()


def _project(point: Tensor) -> Tensor:
    """Project ``(B, L, H, W)`` to the simplex over L: ``max(point - t, 0)``, Newton's method for t."""
    point = (point - point.amax(1, keepdim=True)).clamp_(min=-2.0)  # t is in -1..0, at which -2 gives 0
    shift = torch.full_like(point[:, :1], -1.0)
    for _ in range(NEWTON_STEPS):
        above = point > shift
        excess = torch.where(above, point - shift, 0.0).sum(1, keepdim=True) - 1
        shift += excess / above.sum(1, keepdim=True)
    return point.sub_(shift).clamp_(min=0)


def _compress(
    unary: Tensor, weights: Tensor, usable: Tensor, valid: Tensor, energy: Tensor, labels: Tensor
) -> tuple[_Problem, Tensor, Tensor, Tensor]:
    """Keep the labels that an image uses; return problem, start, energies, and which images are sound.

    The others get a problem without costs, so that nothing upsets the iteration.
    """
    used = (usable & valid[:, None]).flatten(2).any(2)
    names = used.byte().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(used.sum(1).max()))]
    planes = names[:, :, None, None].expand(-1, -1, *valid.shape[1:])
    free = usable.gather(1, planes)
    matters = free & valid[:, None]
    costs = torch.where(matters, unary.gather(1, planes), 0.0)
    limit = torch.where(existing_edges(valid, 8)[:, : weights.shape[1]], weights / 2, 0.0)
    sound = costs.float().isfinite().flatten(1).all(1) & limit.float().isfinite().flatten(1).all(1)
    costs, limit = (torch.where(sound[:, None, None, None], t, 0.0).double() for t in (costs, limit))
    costs = torch.where(matters | ~valid[:, None], costs, torch.inf)
    problem = _Problem.of(costs, limit[:, :, None], torch.where(sound, energy.double(), torch.nan))
    given = (labels[:, None] == planes) & costs.isfinite()
    best = torch.zeros_like(given).scatter_(1, costs.argmin(1, keepdim=True), True)
    start = torch.where(given.any(1, keepdim=True), given, best).float()
    return problem, start, torch.where(sound, energy.double(), torch.nan), sound


def _images_at_once(edge_weights: Tensor, classes: int) -> int:
    """A GPU wants many images, the CPU's caches prefer one."""
    variables = max(1, edge_weights[0].numel() * classes)
    return max(1, GPU_VARIABLES // variables) if works_aside(edge_weights.device) else 1


def _ends(plane: Tensor, direction: int) -> tuple[Tensor, Tensor]:
    """Views of the first and of the second ends of all edges in one direction."""
    return shifted_pair(plane, *OFFSETS[direction])


def _firsts(plane: Tensor, direction: int) -> Tensor:
    return _ends(plane, direction)[0]


def _sum_at_ends(planes: Tensor) -> Tensor:
    """Sum of the values ``(B, E, 1, H, W)`` of all edges of a pixel, ``(B, 1, H, W)``."""
    total = torch.zeros_like(planes[:, 0])
    for e in range(planes.shape[1]):
        (first, second), value = _ends(total, e), _firsts(planes[:, e], e)
        first += value
        second += value
    return total


def _check_masks(unary: Tensor, allowed: Tensor | None, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the labels that each pixel may take, bool ``(B, K, H, W)``, and what is no padding, ``(B, H, W)``."""
    if unary.ndim != 4 or not unary.is_floating_point() or unary.shape[1] < 1:
        raise ValueError(f"`unary` must be a float (B, K, H, W), got {unary.dtype} {tuple(unary.shape)}")
    batch, classes, *size = unary.shape
    if valid is None:
        valid = torch.ones((batch, *size), dtype=torch.bool, device=unary.device)
    if allowed is None:
        allowed = torch.ones((batch, classes), dtype=torch.bool, device=unary.device)
    of_pixels = allowed.ndim == 4
    check_tensor("valid", valid, "bool", (batch, *size), unary.device, "unary")
    check_tensor("allowed", allowed, "bool", (batch, classes, *(size if of_pixels else ())), unary.device, "unary")
    usable = allowed if of_pixels else allowed[:, :, None, None]
    stuck = (valid & ~usable.any(1)).flatten(1).any(1).nonzero().flatten().tolist()
    if stuck:
        raise ValueError(f"`allowed` must leave at least one label to each pixel; images {stuck} have pixels with none")
    return usable.expand(unary.shape), valid


def _check_rest(
    unary: Tensor, weights: Tensor, connectivity: Connectivity, energy: Tensor | None, labels: Tensor | None
) -> None:
    batch, _, height, width = unary.shape
    edges = (batch, len(neighbor_offsets(connectivity)), height, width)
    check_tensor("edge_weights", weights, "float", edges, unary.device, "unary")
    check_tensor("labels", labels, "integer", (batch, height, width), unary.device, "unary")
    if (weights < 0).any():
        raise ValueError("`edge_weights` must be >= 0: with negative ones the relaxation bounds nothing")
    if energy is not None and energy.shape != (batch,):
        raise ValueError(f"`energy` must have shape {(batch,)}, got {tuple(energy.shape)}")
