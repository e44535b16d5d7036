"""The edges of the pixel grid: which there are, and both ends of all of them at once."""

from typing import Literal

import torch
from torch import Tensor

from weakseg_lightning.checks import one_of

Connectivity = Literal[4, 8]
Offsets = tuple[tuple[int, int], ...]

OFFSETS: Offsets = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Steps ``(dy, dx)`` from a pixel to its forward neighbors, in the order of all planes of edges."""


def neighbor_offsets(connectivity: Connectivity) -> Offsets:
    """Return the steps ``(dy, dx)`` from a pixel to its forward neighbors: each edge of the grid occurs once.

    Args:
        connectivity: 4 or 8 neighbors per pixel.

    Returns:
        2 or 4 steps, in the order of the planes of `GridPotts.edge_weights`.

    Raises:
        ValueError: if ``connectivity`` is neither 4 nor 8.

    Example:
        >>> neighbor_offsets(4)
        ((0, 1), (1, 0))
    """
    one_of("connectivity", connectivity, (4, 8))
    return OFFSETS[: connectivity // 2]


def shifted_pair(maps: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Crop two views of maps so that equal positions hold the two ends of an edge.

    Args:
        maps: ``(..., H, W)``.
        dy: rows from the first end to the second, >= 0.
        dx: columns from the first end to the second.

    Returns:
        First and second ends, ``(..., H - dy, W - |dx|)``.
    """
    height, width = maps.shape[-2:]
    rows, columns = max(height - dy, 0), max(width - abs(dx), 0)
    left, right = max(-dx, 0), max(dx, 0)
    return maps[..., :rows, left : left + columns], maps[..., dy : dy + rows, right : right + columns]


def existing_edges(valid: Tensor, connectivity: Connectivity) -> Tensor:
    """Tell which edges join two valid pixels of the image.

    Args:
        valid: bool ``(B, H, W)``, False on padding.
        connectivity: 4 or 8 neighbors per pixel.

    Returns:
        bool ``(B, E, H, W)``, E = 2 or 4: plane e holds at ``(y, x)`` the edge to ``(y + dy, x + dx)`` with
        ``(dy, dx) = neighbor_offsets(connectivity)[e]``.
    """
    offsets = neighbor_offsets(connectivity)
    exists = torch.zeros((len(valid), len(offsets), *valid.shape[1:]), dtype=torch.bool, device=valid.device)
    for e, step in enumerate(offsets):
        first, second = shifted_pair(valid, *step)
        shifted_pair(exists[:, e], *step)[0].copy_(first & second)
    return exists


def count_edges(valid: Tensor, connectivity: Connectivity) -> Tensor:
    """Count the grid edges between valid pixels.

    Args:
        valid: bool ``(B, H, W)``, False on padding.
        connectivity: 4 or 8 neighbors per pixel.

    Returns:
        int64 ``(B,)``.

    Example:
        >>> count_edges(torch.ones(1, 2, 3, dtype=torch.bool), 8)
        tensor([11])
    """
    return existing_edges(valid, connectivity).flatten(1).sum(1)
