"""The softmax, split so that confident pixels keep their digits: ``-log softmax_k = best - score_k + rest``."""

import torch
from torch import Tensor

from weakseg_lightning._native import _core
from weakseg_lightning.solvers.arguments import as_bytes


def split_softmax(scores: Tensor, valid: Tensor, num_threads: int) -> tuple[Tensor, Tensor]:
    """Split the softmax of a batch, without the rests of the single pixels, which no labeling changes.

    Args:
        scores: float32 ``(B, K, H, W)``.
        valid: bool ``(B, H, W)``, False on padding.
        num_threads: threads for the images of a batch on the CPU.

    Returns:
        The best score of each pixel, float32 ``(B, H, W)``, and the rests of each image's valid pixels, which are to
        be summed: float64 ``(B, 1)`` on the CPU, summed already; elsewhere float32 ``(B, H * W)``.
    """
    if scores.device.type != "cpu":
        best, rest = _split(scores)
        return best, torch.where(valid, rest, 0).flatten(1)
    # Not of the default type, which a thread that steps a network in half precision sets for all threads.
    best, sums = torch.empty(valid.shape, dtype=torch.float32), torch.empty(len(valid), dtype=torch.float64)
    _core.split_softmax(
        scores=scores.contiguous().numpy(),
        valid=as_bytes(valid),
        best=best.numpy(),
        logarithms=sums.numpy(),
        num_threads=num_threads,
    )
    return best, sums[:, None]


def precise_potentials(logits: Tensor, unary_weight: float) -> Tensor:
    """The potentials that the energies are made of, float64 ``(B, K, H, W)``.

    Args:
        logits: float ``(B, K, H, W)``.
        unary_weight: their factor.
    """
    scores = logits.float()
    best, rest = _split(scores)
    return (best[:, None].double() - scores) * unary_weight + (unary_weight * rest)[:, None]


def _split(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Best score and rest of each pixel, float32 ``(B, H, W)``."""
    best = scores.amax(1)
    return best, (scores - best[:, None]).exp_().sum(1).log_()  # in place: half the time of `logsumexp`
