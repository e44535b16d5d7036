"""Common checks and conversions of the arguments of losses."""

from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST = 1e-6  # much below, single precision cannot tell 1 - Q from 0 in the logarithm of log_quadratic


def check_mask(name: str, mask: Tensor | None, shape: Sequence[int]) -> None:
    """Raise if a mask is not bool, or not of a shape; None passes.

    Args:
        name: the argument.
        mask: what was given.
        shape: the shape that it must have.

    Raises:
        ValueError: says so.
    """
    if mask is not None and (mask.dtype != torch.bool or mask.shape != torch.Size(shape)):
        raise ValueError(f"`{name}` must be a bool {tuple(shape)}, got {mask.dtype} {tuple(mask.shape)}")


def check_distributions(name: str, distributions: Tensor, logits: Tensor, mask_name: str, mask: Tensor | None) -> None:
    """Raise if distributions over the classes, or a mask of their pixels, do not fit to logits.

    Args:
        name: the argument that holds the distributions.
        distributions: what was given, to be ``(B, K, H, W)`` as the logits are.
        logits: the scores.
        mask_name: the argument that holds the mask.
        mask: what was given, to be bool ``(B, H, W)``, or None.

    Raises:
        ValueError: says so.
    """
    if logits.ndim != 4 or distributions.shape != logits.shape:
        raise ValueError(
            f"`{name}` must have the shape (B, K, H, W) of `logits`, got {tuple(distributions.shape)} and "
            f"{tuple(logits.shape)}"
        )
    check_mask(mask_name, mask, (logits.shape[0], *logits.shape[2:]))


def precise(values: Tensor) -> Tensor:
    """Single precision in place of half; double stays."""
    return values if values.dtype == torch.float64 else values.float()


def bounded_log(values: Tensor) -> Tensor:
    """Logarithm of at least 1e-6, so that it and its gradient are finite; below that, the gradient is 0."""
    return values.clamp(min=_LEAST).log()
