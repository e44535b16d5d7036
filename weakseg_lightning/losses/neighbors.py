"""Pairs of pixels that are one step apart, for all pixels at once."""

from torch import Tensor


def shifted_pair(maps: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Crop two views of ``(B, C, H, W)`` maps so that equal positions hold the two ends of an edge.

    Args:
        maps: ``(B, C, H, W)``.
        dy: rows from the first end to the second, >= 0.
        dx: columns from the first end to the second.

    Returns:
        First and second ends, ``(B, C, H - dy, W - |dx|)``.
    """
    height, width = maps.shape[-2:]
    left, right = max(0, -dx), width - max(0, dx)
    first = maps[..., : max(0, height - dy), left : max(left, right)]
    second = maps[..., dy:, left + dx : max(left, right) + dx]
    return first, second
