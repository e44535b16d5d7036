"""What solvers of discrete labelings take: checked, and with the neutral value in place of what is not given."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning._native import _core
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.solvers.base import SolverResult

Start = Literal["coarse", "argmin", "zeros", "given"]


@dataclass(frozen=True)
class Arguments:
    """The arguments of `Solver.solve`, all of them there.

    Args:
        seeds: uint8 ``(B, H, W)``, 255 where the pixel is free.
        allowed: bool ``(B, K)``: the label set and the labels of the seeds.
        valid: bool ``(B, H, W)``.
        initial: uint8 ``(B, H, W)``, 255 where none is given.
    """

    seeds: Tensor
    allowed: Tensor
    valid: Tensor
    initial: Tensor


def check_arguments(
    logits: Tensor,
    image: Tensor,
    seeds: Tensor | None,
    label_set: Tensor | None,
    valid: Tensor | None,
    initial: Tensor | None,
    start: Start,
) -> Arguments:
    """Check the arguments of `Solver.solve` and fill in those that are None.

    Args:
        logits: as for `Solver.solve`, here and below.
        image: likewise.
        seeds: likewise.
        label_set: likewise.
        valid: likewise.
        initial: likewise; it goes before ``start``.
        start: the labeling to start from; ``given`` demands ``initial``.

    Returns:
        The arguments, on the device of the logits.

    Raises:
        ValueError: if they do not fit together, or an image may use no label.
    """
    _check_scores(logits, image)
    if initial is None and start == "given":
        raise ValueError("`initial` must be passed where `start` is 'given', got None: pass a labeling to start from.")
    batch, classes, height, width = logits.shape
    plane, device = (batch, height, width), logits.device
    if valid is None:
        valid = torch.ones(plane, dtype=torch.bool, device=device)
    if label_set is None:
        label_set = torch.ones((batch, classes), dtype=torch.bool, device=device)
    _check_mask("valid", valid, plane, device)
    _check_mask("label_set", label_set, (batch, classes), device)
    free = torch.full(plane, 0 if start == "zeros" else VOID, dtype=torch.uint8, device=device)
    initial = free if initial is None else check_labels("initial", initial, logits)
    if seeds is None:
        seeds, allowed = torch.full_like(free, VOID), label_set
    else:
        seeds = check_labels("seeds", seeds, logits)
        allowed = label_set | _labels_of(seeds, valid, classes)
    _check_allowed(allowed)
    return Arguments(seeds, allowed, valid, initial)


def check_labels(name: str, labels: Tensor, logits: Tensor) -> Tensor:
    """Check a map of classes and 255.

    Args:
        name: the argument in error messages.
        labels: what was given.
        logits: ``(B, K, H, W)``.

    Returns:
        The map as uint8.

    Raises:
        ValueError: if it is no integer ``(B, H, W)`` on the logits' device, or holds anything but classes and 255.
    """
    shape = (logits.shape[0], *logits.shape[2:])
    if labels.shape != shape or labels.is_floating_point() or labels.dtype == torch.bool or labels.is_complex():
        raise ValueError(f"`{name}` must be an integer {shape}, got {labels.dtype} {tuple(labels.shape)}.")
    _check_device(name, labels, logits.device)
    if labels.device.type == "cpu" and labels.dtype in (torch.uint8, torch.int32, torch.int64):
        narrow = torch.empty(shape, dtype=torch.uint8)
        if _core.read_labels(labels.contiguous().numpy(), logits.shape[1], narrow.numpy()):
            return narrow
    last = logits.shape[1] - 1
    wrong = (labels != VOID) & ((labels < 0) | (labels > last))
    if wrong.any():
        raise ValueError(f"`{name}` must hold classes 0..{last} or {VOID}, got {int(labels[wrong][0])}.")
    return labels.to(torch.uint8)


def empty_result(logits: Tensor) -> SolverResult:
    """Result for a batch without images or pixels."""
    batch, _, height, width = logits.shape
    labels = torch.full((batch, height, width), VOID, dtype=torch.uint8, device=logits.device)
    zero = torch.zeros(batch, dtype=torch.float64)
    count, done = torch.zeros(batch, dtype=torch.int64), torch.ones(batch, dtype=torch.bool)
    return SolverResult(labels, zero, zero.clone(), count, done, zero.clone(), 0.0, 0.0, ("",) * batch)


def as_bytes(mask: Tensor) -> NDArray[np.uint8]:
    """Return a bool tensor as an array of 0 and 1, without a copy where it is contiguous and on the CPU."""
    array: NDArray[np.uint8] = mask.cpu().contiguous().view(torch.uint8).numpy()
    return array


def _labels_of(seeds: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Which classes occur among the seeds, bool ``(B, K)``."""
    if seeds.device.type == "cpu":
        named = torch.zeros((seeds.shape[0], VOID + 1), dtype=torch.bool)
        _core.find_labels(seeds.numpy(), as_bytes(valid), named.view(torch.uint8).numpy())
        return named[:, :classes]
    present = torch.zeros((seeds.shape[0], classes + 1), dtype=torch.bool, device=seeds.device)
    index = torch.where(valid & (seeds != VOID), seeds.long(), classes)
    return present.scatter_(1, index.flatten(1), True)[:, :classes]


def _check_scores(logits: Tensor, image: Tensor) -> None:
    if logits.ndim != 4 or not logits.is_floating_point() or not 1 <= logits.shape[1] <= VOID:
        raise ValueError(
            f"`logits` must be a float (B, K, H, W) with 1 to {VOID} classes, got {logits.dtype} {tuple(logits.shape)}."
        )
    expected = (logits.shape[0], *logits.shape[2:])
    if image.ndim != 4 or (image.shape[0], *image.shape[2:]) != expected or not image.is_floating_point():
        raise ValueError(
            f"`image` must be a float (B, 3, H, W) of the batch and size of `logits` {tuple(logits.shape)}, "
            f"got {image.dtype} {tuple(image.shape)}."
        )
    _check_device("image", image, logits.device)


def _check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"`{name}` must be on the device of `logits`, {device}, got {tensor.device}; move it there.")


def _check_mask(name: str, mask: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    if mask.shape != shape or mask.dtype != torch.bool:
        raise ValueError(f"`{name}` must be a bool {shape}, got {mask.dtype} {tuple(mask.shape)}.")
    _check_device(name, mask, device)


def _check_allowed(allowed: Tensor) -> None:
    empty = (~allowed.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"`label_set` must allow at least one class for each image; images {empty} of the batch have none and no "
            "seeds either. Allow the background, or pass None to allow all classes."
        )
