"""Problems of soft labelings by phase: planes of pixels no two of which are neighbors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg_lightning.energies.grid import OFFSETS
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses.soft_labels import Link
from weakseg_lightning.solvers.problem import Problem

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # parities of row and column, in the order in which they move
Planes = list[Tensor]  # one tensor for each phase, with a frame of one cell


@dataclass(frozen=True)
class SoftProblem:
    """The problems of a batch, in four planes by the parity of row and column: no two neighbors share a plane.

    Args:
        size: height and width of the images.
        link: H.
        unary_weight: factor of the link.
        outputs: sigma, or its logarithm for the cross-entropy, float ``(B, K, h + 2, w + 2)`` each; 0 for labels that
            are not allowed, and on padding.
        edges: forward edges, float ``(B, E, h + 2, w + 2)`` each.
        free: bool ``(B, 1, h + 2, w + 2)`` each: neither a seed nor padding.
        allowed: bool ``(B, K, 1, 1)``.
        seeded: distributions to start from, as the outputs.
        failures: int64 ``(B,)``, codes of `failure_messages`.
    """

    size: tuple[int, int]
    link: Link
    unary_weight: float
    outputs: Planes
    edges: Planes
    free: Planes
    allowed: Tensor
    seeded: Planes
    failures: Tensor

    @classmethod
    def of(cls, scores: Tensor, edges: Tensor, problem: Problem, link: Link, unary_weight: float) -> Self:
        """Take a problem apart.

        Args:
            scores: float32 ``(B, K, H, W)``.
            edges: float32 ``(B, E, H, W)``.
            problem: seeds, labels and padding.
            link: H.
            unary_weight: factor of the link.
        """
        valid, seeds = problem.valid[:, None], problem.seeds[:, None]
        allowed = problem.allowed[:, :, None, None]
        used = torch.where(allowed & valid, scores, 0.0)
        wrong = ~used.flatten(1).isfinite().all(1)
        failures = torch.where(wrong, 1, torch.where(edges.flatten(1).isfinite().all(1), 0, 2))
        sound = (failures == 0)[:, None, None, None]
        logarithms = torch.where(allowed & sound, used, -torch.inf).log_softmax(1)
        inside = allowed & valid & sound
        sigma = torch.where(inside, logarithms.exp(), 0.0)
        fixed = valid & (seeds != VOID)
        one_hot = seeds == torch.arange(scores.shape[1], device=scores.device)[:, None, None]
        start = torch.where(fixed, one_hot.to(sigma), sigma)
        return cls(
            size=(scores.shape[2], scores.shape[3]),
            link=link,
            unary_weight=unary_weight,
            outputs=phases_of(torch.where(inside, logarithms, 0.0) if link == "cross_entropy" else sigma),
            edges=phases_of(torch.where(sound, edges, 0.0)),
            free=phases_of(valid & ~fixed & sound),
            allowed=allowed,
            seeded=phases_of(torch.where(sound, start, 0.0)),
            failures=failures,
        )

    def image_of(self, planes: Planes) -> Tensor:
        """Put planes together again, ``(B, K, H, W)``."""
        batch, classes, rows, columns = planes[0].shape
        whole = planes[0].new_empty(batch, classes, 2 * rows, 2 * columns)
        for (a, b), plane in zip(PHASES, planes, strict=True):
            whole[..., a::2, b::2] = plane
        return whole[..., 2 : 2 + self.size[0], 2 : 2 + self.size[1]].contiguous()

    def neighbors(self, phase: int, planes: Planes) -> list[tuple[Tensor, Tensor]]:
        """Weight ``(B, 1, h, w)`` and distribution ``(B, K, h, w)`` of the neighbors of a phase's cells."""
        found = []
        for e, (dy, dx) in enumerate(OFFSETS[: self.edges[0].shape[1]]):
            for sign in (1, -1):
                other, view = _neighbor(phase, sign * dy, sign * dx)
                weights = inside(self.edges[phase]) if sign > 0 else view(self.edges[other])
                found.append((weights[:, e : e + 1], view(planes[other])))
        return found


def phases_of(image: Tensor) -> Planes:
    """Take maps apart by the parity of row and column, with a frame of one cell of zeros around each plane."""
    height, width = image.shape[-2:]
    framed = F.pad(image, (2, 2 + width % 2, 2, 2 + height % 2))
    return [framed[..., a::2, b::2].contiguous() for a, b in PHASES]


def inside(plane: Tensor) -> Tensor:
    """The cells of a plane without its frame."""
    return plane[..., 1:-1, 1:-1]


def _neighbor(phase: int, dy: int, dx: int) -> tuple[int, Callable[[Tensor], Tensor]]:
    """The phase of the neighbors in a direction, and the view of that phase's planes in which they lie."""
    row, column = PHASES[phase][0] + dy, PHASES[phase][1] + dx
    top, left = 1 + row // 2, 1 + column // 2

    def view(plane: Tensor) -> Tensor:
        height, width = plane.shape[-2] - 2, plane.shape[-1] - 2
        return plane[..., top : top + height, left : left + width]

    return PHASES.index((row % 2, column % 2)), view
