"""Potts problems of a batch as the compiled core takes them."""

import torch
from torch import Tensor

from weakseg_lightning._native import _core
from weakseg_lightning.devices import to_host
from weakseg_lightning.solvers.arguments import as_bytes
from weakseg_lightning.solvers.problem import Problem

_FAILURES = (
    "",
    "`logits` hold nan or infinite values",
    "`image` or the edge weights hold nan or infinite values",
)


def potts_batch(
    scores: Tensor, best: Tensor, slope: float, edges: Tensor, problem: Problem, start: Tensor, *others: Tensor
) -> tuple[_core.PottsBatch, list[Tensor]]:
    """Bring the energies of a batch to the CPU: label k costs ``slope * (scores_k - best)``.

    Args:
        scores: float32 ``(B, K, H, W)``; of another device only the planes of allowed labels travel.
        best: float32 ``(B, H, W)``.
        slope: factor of the unary terms.
        edges: float32 ``(B, E, H, W)`` as of `GridPotts.edge_weights`.
        problem: seeds, labels and padding.
        start: uint8 ``(B, H, W)``, labeling to start from, 255 where there is none.
        others: what else is needed there.

    Returns:
        The batch, which reads CPU tensors in place, and the others on the CPU.

    Raises:
        SeedsOutsideError: see `Problem.require_known`.
    """
    image, label = problem.known.nonzero(as_tuple=True)
    if scores.device.type == "cpu":  # read in place
        planes = image * scores.shape[1] + label
        used = scores.contiguous().flatten(0, 1)
    else:
        planes = torch.arange(len(label))
        used = torch.stack([scores[b, k] for b, k in zip(image.tolist(), label.tolist(), strict=True)])
    used, best, edges, seeds, valid, start, *rest = to_host(
        used, best, edges, problem.seeds, problem.valid, start, *others
    )
    problem.require_known(seeds, valid)
    batch = _core.PottsBatch(
        scores=used.numpy(),
        zero=best.numpy(),
        slope=slope,
        planes=planes.to(torch.int32).numpy(),
        names=label.to(torch.uint8).numpy(),
        num_labels=problem.known.sum(1).to(torch.int32).numpy(),
        edges=edges.contiguous().numpy(),
        seeds=seeds.contiguous().numpy(),
        valid=as_bytes(valid),
        initial=start.contiguous().numpy(),
    )
    return batch, rest


def failure_messages(failures: Tensor) -> tuple[str, ...]:
    """Say what is wrong with each image of a batch, empty where nothing is.

    Args:
        failures: the core's codes, integer ``(B,)``.
    """
    return tuple(_FAILURES[code] for code in failures.tolist())
