"""Means over the pixels or images of a step that several ranks take together.

Ranks average their gradients. Where each divides its loss by its own number of labeled pixels, the pixels of a rank
that has few of them count for more than those of the others, and two ranks learn something else than one process on
the same images. Inside :func:`ranks_together` the losses divide by the numbers of all ranks instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, distributed

__all__ = ["mean_over", "mean_over_images", "ranks_together", "sum_over_ranks", "total_of_ranks"]

_together = False


@contextmanager
def ranks_together() -> Iterator[None]:
    """Count over all ranks inside: each of them has to compute the same losses, in the same order.

    Without ``torch.distributed``, or with one rank, nothing changes.
    """
    global _together
    before = _together
    _together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    try:
        yield
    finally:
        _together = before


def sum_over_ranks(count: Tensor) -> Tensor:
    """Sum a count over the ranks inside :func:`ranks_together`; elsewhere it is that of this rank.

    Args:
        count: any tensor without gradient, of the same shape on all ranks.
    """
    if not _together:
        return count
    summed = count.detach().clone()
    distributed.all_reduce(summed)
    return summed


def total_of_ranks(total: Tensor) -> Tensor:
    """Sum something with gradient over the ranks inside :func:`ranks_together`, for losses that are no sums, as Dice.

    The gradients of R ranks are averaged: each rank's own part counts R times in the gradient of the sum.

    Args:
        total: the part of this rank, of the same shape on all ranks.

    Example:
        >>> total_of_ranks(torch.tensor(2.0))  # one rank
        tensor(2.)
    """
    if not _together:
        return total
    return sum_over_ranks(total) + distributed.get_world_size() * (total - total.detach())


def mean_over(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum of losses by the number of its summands, at least 1.

    Inside :func:`ranks_together`, ``R total / sum of the counts`` of R ranks: the mean of that over the ranks, which is
    what their averaged gradients belong to, is the mean over the summands of all ranks.

    Args:
        total: sum of losses on this rank, with gradient.
        count: how many there are on this rank, int ``()``.

    Example:
        >>> mean_over(torch.tensor(6.0), torch.tensor(4))
        tensor(1.5000)
    """
    if not _together:
        return total / count.clamp(min=1)
    return distributed.get_world_size() * total / sum_over_ranks(count).clamp(min=1)


def mean_over_images(each: Tensor, pixels: Tensor) -> Tensor:
    """Average losses of pixels over the pixels of each image, then over the images that have any, of all ranks.

    Args:
        each: the loss of each pixel, ``(B, H, W)``, 0 outside of ``pixels``.
        pixels: the pixels that count, bool ``(B, H, W)``.

    Example:
        >>> pixels = torch.tensor([[[True, True]], [[True, False]], [[False, False]]])
        >>> mean_over_images(torch.tensor([[[1.0, 3.0]], [[4.0, 0.0]], [[0.0, 0.0]]]), pixels)
        tensor(3.)
    """
    counts = pixels.flatten(1).sum(1)
    means = each.flatten(1).sum(1) / counts.clamp(min=1)
    return mean_over(means.sum(), (counts > 0).sum())
